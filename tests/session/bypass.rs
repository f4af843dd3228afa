//! Users of the bypass list: whoever becomes one has proven to PostgreSQL who they are.

use multigres::session::Stage;

use super::{CANARY, acme, answer, authentication, contains, ok, start};
use testing::session::{Play, at_every_chunk_size, message, startup};

/// PostgreSQL may have taken Multigres itself for the user, by `peer` or by its certificate.
#[test]
fn a_bypass_user_whom_upstream_has_asked_nothing_is_refused_where_it_may_know_multigres() {
    at_every_chunk_size(|cast| {
        let start_of = |user: &str| startup(&[("user", user), ("database", "crm")]);
        let mut play = Play::new(cast.upstream_may_know_multigres());
        play.client(&start_of("postgres"));
        play.take_to_upstream();
        play.upstream(&[ok(), CANARY.to_vec()].concat());
        let said = play.expect_refusal("28000");
        assert!(!contains(&said, CANARY));

        // Who has had to prove something is let in, and so is a tenant, whose role is no secret.
        let mut play = Play::new(cast.upstream_may_know_multigres());
        play.client(&start_of("postgres"));
        play.upstream(&authentication(3, b""));
        play.client(&message(b'p', b"secret\0"));
        play.upstream(&ok());
        assert_eq!(play.stage(), Stage::Piping);
        let mut play = acme(cast.upstream_may_know_multigres());
        play.upstream(&start());
        answer().iter().for_each(|message| play.upstream(message));
        assert_eq!(play.stage(), Stage::Piping);
    });
}
