//! A schema in front of `pg_catalog` whose objects bear the names of what the daemon asks.

use std::sync::OnceLock;

use crate::packets::{VERSION_3, startup};
use testing::{Daemon, Raw, TENANTS, cluster};

use crate::after_attack::{assert_serves, refused};

/// Everything in `evil` notes who has used it.
const EVIL: &str = "
    create schema evil;
    create table evil.users (name pg_catalog.name);
    grant usage on schema evil to public;
    grant all on evil.users to public;
    create function evil.used() returns bigint language plpgsql as
        $$begin insert into evil.users values (current_user); return 1; end$$;
    create function evil.set_config(pg_catalog.text, pg_catalog.text, boolean)
        returns pg_catalog.text language plpgsql as
        $$begin perform evil.used(); return 'acme'; end$$;
    create function evil.current_setting(pg_catalog.text) returns pg_catalog.text
        language plpgsql as $$begin perform evil.used(); return 'acme'; end$$;
    create function evil.current_setting(pg_catalog.text, boolean) returns pg_catalog.text
        language plpgsql as $$begin perform evil.used(); return 'acme'; end$$;
    create function evil.pg_backend_pid() returns int
        language plpgsql as $$begin perform evil.used(); return 1; end$$;
    create function evil.pg_has_role(pg_catalog.name, pg_catalog.oid, pg_catalog.text)
        returns boolean
        language plpgsql as $$begin perform evil.used(); return false; end$$;
    create function evil.bump(bigint) returns bigint
        language plpgsql as $$begin perform evil.used(); return 0; end$$;
    create aggregate evil.count(*) (sfunc = evil.bump, stype = bigint, initcond = '0');
    create view evil.pg_roles as
        select evil.used()::oid as oid, name 'x' as rolname, false as rolsuper,
               false as rolbypassrls;
    create view evil.pg_authid as select * from evil.pg_roles;
    create function evil.equal(pg_catalog.text, pg_catalog.text) returns boolean
        language plpgsql as $$begin perform evil.used(); return true; end$$;
    create operator evil.= (function = evil.equal, leftarg = pg_catalog.text,
        rightarg = pg_catalog.text);
    create function evil.equal(pg_catalog.oid, pg_catalog.oid) returns boolean
        language plpgsql as $$begin perform evil.used(); return true; end$$;
    create operator evil.= (function = evil.equal, leftarg = pg_catalog.oid,
        rightarg = pg_catalog.oid);
    create function evil.equal(pg_catalog.name, pg_catalog.name) returns boolean
        language plpgsql as $$begin perform evil.used(); return true; end$$;
    create operator evil.= (function = evil.equal, leftarg = pg_catalog.name,
        rightarg = pg_catalog.name);
    create function evil.bad(pg_catalog.text) returns boolean
        language plpgsql as $$begin perform evil.used(); return true; end$$;
    create domain evil.text as pg_catalog.text check (evil.bad(value));
    create domain evil.name as pg_catalog.name check (evil.bad(value::pg_catalog.text));
    create domain evil.bool as pg_catalog.bool check (evil.bad('bool'));
    create domain evil.int4 as pg_catalog.int4 check (evil.bad('int4'));
    create role bystander_superuser superuser nologin;
    create role evil_member login in role tenant_tables, bystander_superuser";

fn plant() {
    static PLANTED: OnceLock<()> = OnceLock::new();
    PLANTED.get_or_init(|| cluster().superuser(TENANTS).batch_execute(EVIL).unwrap());
}

fn login(daemon: &Daemon, user: &str, parameter: (&str, &str)) -> Raw {
    plant();
    let mut raw = daemon.raw();
    raw.send(&startup(
        VERSION_3,
        &[
            (b"user", user.as_bytes()),
            (b"database", TENANTS.as_bytes()),
            (parameter.0.as_bytes(), parameter.1.as_bytes()),
        ],
    ));
    raw
}

const PATHS: [(&str, &str); 4] = [
    ("search_path", "evil,pg_catalog"),
    ("Search_Path", "evil, pg_catalog, public"),
    ("options", "-c search_path=evil,pg_catalog"),
    ("options", "--search-path=evil,pg_catalog"),
];

#[test]
fn a_schema_in_front_of_the_catalog_shadows_nothing_of_what_is_bound_and_checked() {
    let daemon = Daemon::start();
    for parameter in PATHS {
        let mut raw = login(&daemon, "app_user.acme", parameter);
        let last = raw.read_until(b"ZE").pop().unwrap();
        assert_eq!(last.tag, b'Z', "{parameter:?}: {last:?}");
        // Something that is not qualified must have been evil's for the rest to mean anything.
        assert_eq!(raw.query_value("select pg_backend_pid()"), "1", "{parameter:?}");
        let sql = "select pg_catalog.concat_ws(' ',
            pg_catalog.current_setting('app.current_tenant_id'::pg_catalog.text),
            current_user, (select pg_catalog.string_agg(name, ' ') from public.contacts))";
        assert_eq!(raw.query_value(sql), "acme app_user Ada Alan", "{parameter:?}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_schema_in_front_of_the_catalog_is_not_even_touched_by_the_login() {
    let daemon = Daemon::start();
    let mut watcher = cluster().superuser(TENANTS);
    plant();
    for parameter in PATHS {
        // The same objects, seen through a copy of their alarm that only this role rings.
        let mut raw = login(&daemon, "trust_user.acme", parameter);
        assert_eq!(raw.read_until(b"ZE").pop().unwrap().tag, b'Z', "{parameter:?}");
        drop(raw);
        let sql = "select count(*) from evil.users where name = 'trust_user'";
        let touched: i64 = watcher.query_one(sql, &[]).unwrap().get(0);
        assert_eq!(touched, 0, "{parameter:?}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_schema_in_front_of_the_catalog_does_not_hide_that_a_role_is_privileged() {
    let daemon = Daemon::start();
    for parameter in PATHS {
        let mut raw = login(&daemon, "evil_member.acme", parameter);
        refused(&mut raw, &["28000"]);
    }
    assert_serves(&daemon);
}
