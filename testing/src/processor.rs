//! Processor time of processes, as Linux counts it.

use std::fs;
use std::time::Duration;

/// What all threads that a process has have used so far. `None` where the system does not tell.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut nanoseconds = 0;
    for thread in threads {
        // One that has ended meanwhile does not count.
        let path = thread.ok()?.path().join("schedstat");
        let Ok(text) = fs::read_to_string(path) else { continue };
        nanoseconds += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// What a process has used, its children, and those that it had, in clock ticks.
pub fn processor_time_with_children(pid: u32) -> Duration {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let ticks = children.map(|child| ticks(child)[..2].iter().sum::<u64>()).sum::<u64>()
        + ticks(pid).iter().sum::<u64>();
    Duration::from_millis(1000 * ticks / rustix::param::clock_ticks_per_second())
}

/// utime, stime, cutime and cstime of proc_pid_stat(5), in clock ticks; none of a process that is
/// gone.
pub(crate) fn ticks(pid: u32) -> [u64; 4] {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before them may hold spaces.
    let behind = text.rsplit(") ").next().unwrap_or_default();
    let mut fields = behind.split(' ').skip(11).map(|field| field.parse().unwrap_or(0));
    std::array::from_fn(|_| fields.next().unwrap_or(0))
}
