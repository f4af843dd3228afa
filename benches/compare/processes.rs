//! What Linux says of a process, memory and system calls; and where it may run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use testing::{Signal, send_signal};

/// Its share of memory, shared pages divided among those who share them.
pub fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// Keeps this process, and all that it starts, off the processor of the one in the middle. False
/// where there is only one processor.
pub fn stay_off_the_last_processor() -> bool {
    let last = processors() - 1;
    last > 0 && taskset(&format!("0-{}", last - 1), std::process::id())
}

/// Gives a process the last processor.
pub fn put_on_the_last_processor(pid: u32) -> bool {
    taskset(&(processors() - 1).to_string(), pid)
}

/// How many there are, whichever this process may use.
pub fn processors() -> usize {
    let text = fs::read_to_string("/proc/stat").expect("Linux");
    let is_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(is_one).count()
}

fn taskset(list: &str, pid: u32) -> bool {
    let mut command = Command::new("taskset");
    command.args(["-a", "-c", "-p", list, &pid.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// As long as this is held, an idle processor does not sleep: on a virtual machine to wake it costs
/// more than what is measured. `None` where that is not ours to say.
pub fn keep_processors_awake() -> Option<File> {
    let mut file = File::options().write(true).open("/dev/cpu_dma_latency").ok()?;
    file.write_all(&0_i32.to_ne_bytes()).ok()?;
    Some(file)
}

/// A running strace that counts.
pub struct Tracer {
    process: Child,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Tracer {
    /// Once it is attached. `None` where there is no strace, or where it may not.
    pub fn start(pid: u32) -> Option<Tracer> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("calls");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&file).args(["-p", &pid.to_string()]);
        let mut process = command.stderr(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(process.stderr.take()?).read_line(&mut line).ok()?;
        if !line.contains("attached") {
            let _ = process.wait();
            return None;
        }
        Some(Tracer { process, file, _folder: folder })
    }

    /// All calls so far.
    pub fn end(mut self) -> Option<u64> {
        send_signal(Signal::INT, self.process.id());
        self.process.wait().ok()?;
        let text = fs::read_to_string(&self.file).ok()?;
        let total = text.lines().find(|line| line.ends_with(" total"))?;
        total.split_whitespace().nth(3)?.parse().ok()
    }
}
