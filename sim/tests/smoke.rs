//! A sweep small enough for every test run: all profiles, cuts of the login, determinism. The
//! binary
//! sweeps further.

use multigres_sim::plan::{Plan, Profile};
use multigres_sim::{exhaust, run};

const PROFILES: [Profile; 5] =
    [Profile::Quiet, Profile::Swarm, Profile::Auth, Profile::Backpressure, Profile::Liveness];

#[test]
fn the_invariants_hold_over_some_seeds_of_all_profiles() {
    for profile in PROFILES {
        for seed in 0..3 {
            let ran = run::run(&Plan::from_seed(seed, profile), false);
            let violations = &ran.record.violations;
            assert!(violations.is_empty(), "seed {seed} of {profile:?}: {violations:?}");
        }
    }
}

#[test]
fn a_login_that_is_cut_anywhere_is_refused_or_let_go() {
    for (at, plan) in exhaust::plans(47).iter().enumerate() {
        let violations = run::run(plan, false).record.violations;
        assert!(violations.is_empty(), "plan {at}: {violations:?}");
    }
}

#[test]
fn one_seed_has_one_trace() {
    for profile in PROFILES {
        let plan = Plan::from_seed(10, profile);
        let (one, two) = (run::run(&plan, true), run::run(&plan, true));
        assert_eq!(one.record.text, two.record.text, "{profile:?}");
        assert!(one.record.lines > 100, "{profile:?} does something");
        let other = run::run(&Plan::from_seed(11, profile), true);
        assert_ne!(one.record.hash, other.record.hash, "{profile:?}");
    }
}
