//! A sweep small enough for a debug build: all profiles, some cuts of the login, determinism. `make
//! test` sweeps further with the binary.

use std::fs;

use multigres_sim::commit::{first_seed, sources};
use multigres_sim::plan::{Plan, Profile};
use multigres_sim::{exhaust, run};

#[test]
fn the_invariants_hold_over_some_seeds_of_all_profiles() {
    for profile in Profile::ALL {
        for seed in 0..2 {
            let ran = run::run(&Plan::from_seed(seed, profile), false);
            let violations = &ran.record.violations;
            assert!(violations.is_empty(), "seed {seed} of {profile:?}: {violations:?}");
        }
    }
}

#[test]
fn a_login_that_is_cut_anywhere_is_refused_or_let_go() {
    for (at, plan) in exhaust::plans(97).iter().enumerate() {
        let violations = run::run(plan, false).record.violations;
        assert!(violations.is_empty(), "plan {at}: {violations:?}");
    }
}

#[test]
fn one_seed_has_one_trace() {
    for profile in Profile::ALL {
        let plan = Plan::from_seed(10, profile);
        let (one, two) = (run::run(&plan, true), run::run(&plan, true));
        assert_eq!(one.record.text, two.record.text, "{profile:?}");
        assert!(one.record.lines > 100, "{profile:?} does something");
        let other = run::run(&Plan::from_seed(11, profile), true);
        assert_ne!(one.record.hash, other.record.hash, "{profile:?}");
    }
}

#[test]
fn each_commit_has_seeds_of_its_own_and_always_the_same() {
    assert_eq!(first_seed("49f5d03"), first_seed("49f5d03\n"));
    assert_ne!(first_seed("49f5d03"), first_seed("4db2e5d"));
    assert!((100_000_000_000..1_000_000_000_000).contains(&first_seed("")));
}

#[test]
fn without_git_the_name_of_a_commit_moves_with_the_sources() {
    let folder = std::env::temp_dir().join(format!("multigres-sim-{}", std::process::id()));
    fs::create_dir_all(folder.join("src/proxy")).unwrap();
    fs::create_dir_all(folder.join("sim/src")).unwrap();
    fs::write(folder.join("Cargo.lock"), "a lock").unwrap();
    fs::write(folder.join("src/proxy/mod.rs"), "one").unwrap();
    let before = sources(&folder).unwrap();
    assert_eq!(sources(&folder).unwrap(), before);
    fs::write(folder.join("src/proxy/mod.rs"), "two").unwrap();
    assert_ne!(sources(&folder).unwrap(), before);
    fs::remove_dir_all(&folder).unwrap();
    assert!(sources(&folder).is_err());
}
