//! setup.sql over a database that an older one has set up: tables stay protected, a seal stays a
//! seal, and what comes out is what a new database has. The older forms stand here in small.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::linter::findings;
use testing::{
    SEAL_KEY, SETUP, SealedLogin, TEARDOWN, TENANT_VARIABLE, UNGUARD, cluster, count,
    sealed_options, set_up_database, sqlstate,
};

/// The first version: one function, policies that call it for every row and remember nothing,
/// no check, no harden.
const FIRST: &str = "
    alter table notes drop constraint notes_pkey, alter column tenant_id drop not null,
        alter column tenant_id drop default;
    drop policy multigres_isolation on notes;
    drop policy multigres_access on notes;
    do $$
    declare
        function regprocedure;
    begin
        for function in
            select oid from pg_proc where pronamespace = 'public'::regnamespace
            order by proname
        loop
            execute 'drop function ' || function;
        end loop;
    end
    $$;
    create function public.current_tenant_id() returns text language sql stable parallel safe as $$
        select case
            when pg_catalog.current_setting('app.current_tenant_id', true)
                operator(pg_catalog.<>) ''
            then pg_catalog.current_setting('app.current_tenant_id', true)
        end $$;
    create function public.multigres_isolate(regclass, name) returns void language sql as '';
    create function public.multigres_protect(table_name regclass, column_name name)
        returns void language sql as '';
    create function public.multigres_status()
        returns table (table_name text, tenant_column text, protected text, problems text)
        language sql as 'select '''', '''', '''', ''''';
    create policy multigres_isolation on notes as restrictive
        using (tenant_id = current_tenant_id()) with check (tenant_id = current_tenant_id());
    create policy multigres_access on notes
        using (tenant_id = current_tenant_id()) with check (tenant_id = current_tenant_id())";

/// Between: the seal was asked for in another way, and the plain function told no difference
/// between nothing and the empty text.
const MIDDLE: &str = "
    create or replace function public.multigres_context(variable text) returns text
    language sql stable parallel safe as $$
        select pg_catalog.current_setting(variable, true) $$;
    alter function public.multigres_context(text) reset search_path;
    alter function public.multigres_context(text) security invoker;
    create or replace function public.current_tenant_id() returns text
    language sql stable security definer parallel unsafe set search_path = pg_catalog as $$
        select public.multigres_context('app.current_tenant_id') $$;
    create function public.multigres_dimensions() returns setof pg_policy language sql as
        'table pg_catalog.pg_policy';
    create function public.multigres_lost() returns setof pg_policy language sql as
        'table pg_catalog.pg_policy';
    drop function multigres_check() cascade";

/// The version before the helpers moved into schema multigres, and before findings had names.
const HELPERS_IN_PUBLIC: &str = "
    select multigres_harden();
    do $$
    declare
        helper regprocedure;
    begin
        for helper in
            select p.oid from pg_proc as p
            where p.pronamespace = 'multigres'::regnamespace and p.proname in ('family',
                'sequences', 'prepare', 'restore_column', 'restore_table', 'app_roles', 'reached',
                'revoke', 'revoke_table', 'define_context', 'role_problems', 'keep_owned')
        loop
            execute format('alter function %s set schema public', helper);
            execute format('alter function %s rename to %I', helper, 'multigres_'
                || (select p.proname from pg_proc as p where p.oid = helper));
        end loop;
        drop function public.multigres_check(), multigres.check_role(), multigres.check_owned(),
            multigres.cascades(), multigres.login_settings();
    end
    $$;
    create function public.multigres_dimensions(table_name regclass default null)
        returns setof pg_policy language sql as 'table pg_catalog.pg_policy';
    create function public.multigres_isolations() returns setof pg_policy language sql as
        'table pg_catalog.pg_policy';
    create function public.multigres_check()
        returns table (severity text, object text, problem text, fix text)
        language sql as 'select '''', '''', '''', ''''';
    create function public.multigres_check_role()
        returns table (severity text, object text, problem text, fix text)
        language sql as 'select '''', '''', '''', ''''';
    create function multigres.check_owned()
        returns table (severity text, object text, problem text, fix text)
        language sql as 'select '''', '''', '''', ''''';
    create function multigres.cascades()
        returns table (severity text, object text, problem text, fix text)
        language sql as 'select '''', '''', '''', ''''';
    create function multigres.login_settings() returns table (object text, name text, value text,
        severity text, effect text, fix text) language sql as
        'select '''', '''', '''', '''', '''', '''''";

/// The policies of the version before the record: one restrictive one for each dimension, whose
/// comment says what unprotect undoes, and a permissive one for everybody. The cast stands outside
/// the subquery.
const RECORDED_IN_COMMENTS: &str = r#"
    do $$
    declare
        known record;
        predicate text;
        policy name;
        comment jsonb;
    begin
        for known in select * from multigres.dimensions as d join multigres.tables as t
            using (relation) order by d.relation, d.place
        loop
            if known.place = 1 then
                execute format('drop policy multigres_isolation on %s', known.relation);
                execute format('drop policy if exists multigres_access on %s', known.relation);
            end if;
            predicate := case when known.variable = 'app.current_tenant_id'
                then '( SELECT public.current_tenant_id() AS current_tenant_id)'
                else format('( SELECT public.multigres_context(%L::text) AS c)',
                    known.variable) end;
            predicate := case when known.kind = 'text'
                then format('(%I = %s)', known.column_name, predicate)
                when known.kind = 'citext'
                then format('((%1$I = (%2$s)::citext) AND ((%1$I)::text = %2$s))',
                    known.column_name, predicate)
                else format('(%I = (%s)::%s)', known.column_name, predicate, known.kind) end;
            policy := 'multigres_isolation' || case when known.place > 1
                then '_' || known.column_name else '' end;
            execute format('create policy %I on %s as restrictive using (%s) with check (%s)',
                policy, known.relation, predicate, predicate);
            comment := known.undo || jsonb_build_object('column', known.column_name,
                'variable', known.variable,
                'table', (select t.undo from multigres.tables as t
                    where t.relation = known.relation),
                'dimensions', (
                    select jsonb_object_agg('multigres_isolation' || case when d.place > 1
                        then '_' || d.column_name else '' end,
                        jsonb_build_object('column', d.column_name, 'variable', d.variable))
                    from multigres.dimensions as d where d.relation = known.relation));
            execute format('comment on policy %I on %s is %L', policy, known.relation, comment);
            if known.place = 1 then
                execute format('create policy multigres_access on %s using (%s) with check (%s)',
                    known.relation, predicate, predicate);
                execute format('comment on policy multigres_access on %s is %L', known.relation,
                    jsonb_build_object('dimensions', comment -> 'dimensions'));
            end if;
        end loop;
        drop table multigres.tables, multigres.dimensions;
    end
    $$"#;

/// No older version had event triggers.
const NO_GUARD: &str =
    "drop event trigger multigres_guard; drop event trigger multigres_guard_drop;
    drop event trigger multigres_guard_start; drop event trigger multigres_guard_schema;";

#[test]
fn an_older_setup_becomes_what_a_new_one_is() {
    let seal = format!("select multigres_seal('{SEAL_KEY}', 'none')");
    let mut fresh = cluster().superuser(&set_up_database("upgrade_fresh"));
    let plain = functions(&mut fresh);
    fresh.batch_execute(&seal).unwrap();
    let verifying = functions(&mut fresh);
    assert_ne!(plain, verifying);
    // The first version knew no seals.
    for (name, older, sealed) in [
        ("first", FIRST, false),
        ("middle", MIDDLE, false),
        ("middle", MIDDLE, true),
        ("helpers", HELPERS_IN_PUBLIC, false),
        ("helpers", HELPERS_IN_PUBLIC, true),
    ] {
        let database = set_up_database(&format!("upgrade_{name}_{sealed}"));
        let mut owner = cluster().superuser(&database);
        owner
            .batch_execute(
                "create table notes (tenant_id text primary key, body text);
                 insert into notes values ('acme', 'mine'), ('globex', 'theirs');
                 select multigres_protect('notes')",
            )
            .unwrap();
        if sealed {
            owner.batch_execute(&seal).unwrap();
        }
        owner.batch_execute(&format!("{NO_GUARD} {older}")).unwrap();
        for _ in 0..2 {
            owner.batch_execute(&SETUP).unwrap();
        }
        owner.batch_execute("select multigres_protect('notes')").unwrap();
        let expected = if sealed { &verifying } else { &plain };
        assert_eq!(functions(&mut owner), *expected, "{name}");
        assert_eq!(count(&mut owner, "multigres_status() where protected = 'no'"), 0);
        assert_eq!(findings(&mut owner), [""; 0], "{name}");
        let moved = "pg_event_trigger as t join pg_proc as p on p.oid = t.evtfoid
            where p.oid = 'multigres.keep_owned()'::regprocedure";
        assert_eq!(count(&mut owner, moved), i64::from(name == "helpers"), "{name}");
        let bare = "pg_policy where pg_get_expr(polqual, polrelid) !~* 'select'";
        assert_eq!(count(&mut owner, bare), 0, "{name}");
        isolates(&database, sealed);

        owner.batch_execute(TEARDOWN).unwrap();
        assert_eq!(functions(&mut owner), [""; 0], "{name}");
        assert_eq!(count(&mut owner, "pg_policy"), 0, "{name}");
    }
}

fn isolates(database: &str, sealed: bool) {
    let mut options = format!("-c {TENANT_VARIABLE}=acme");
    if sealed {
        let mut unsealed = cluster().direct("app_user", database);
        let mut unsealed = unsealed.options(&options).connect(NoTls).unwrap();
        assert_eq!(count(&mut unsealed, "notes"), 0, "without a seal");
        let seal = SealedLogin::new(database, "acme").seal();
        options = sealed_options(TENANT_VARIABLE, "acme", &seal);
    }
    let mut client = cluster().direct("app_user", database);
    let mut client = client.options(&options).connect(NoTls).unwrap();
    let body: String = client.query_one("select body from notes", &[]).unwrap().get(0);
    assert_eq!(body, "mine");
    let theirs = "insert into notes values ('initech', 'forged')";
    assert_eq!(sqlstate(&client.batch_execute(theirs).unwrap_err()), "42501");
    client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
    assert_eq!(count(&mut client, "notes"), if sealed { 0 } else { 1 });
}

/// All in which two functions may differ.
fn functions(client: &mut Client) -> Vec<String> {
    let sql = "select concat_ws(' ', oid::regprocedure, pg_get_function_result(oid),
                   array_to_string(proacl, ';'), prosecdef, provolatile::text, proparallel::text,
                   proconfig::text, md5(prosrc))
               from pg_proc where pronamespace in ('public'::regnamespace,
                   to_regnamespace('multigres')) order by 1";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn what_the_comments_of_policies_remembered_moves_into_the_record() {
    let database = set_up_database("upgrade_comments");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create extension citext;
             create table notes (tenant_id uuid, user_id citext, body text);
             grant trigger on notes to app_user;
             select multigres_protect('notes');
             select multigres_protect('notes', 'user_id', 'app.current_user_id');
             create table parts (tenant_id text, k int) partition by list (k);
             create table part partition of parts for values in (1);
             select multigres_protect('parts');
             create table own (tenant_id text, k int); create policy mine on own using (k > 0);
             alter table own enable row level security;
             select multigres_protect('own');
             create table lost (tenant_id text, user_id text);
             select multigres_protect('lost');
             select multigres_protect('lost', 'user_id', 'app.current_user_id')",
        )
        .unwrap();
    let record = |owner: &mut Client| -> Vec<String> {
        let sql = "select concat_ws(' ', d.relation, place, column_name, variable, kind, d.undo,
                       t.undo - 'policies')
                   from multigres.dimensions as d join multigres.tables as t using (relation)
                   order by 1";
        owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let before = record(&mut owner);
    owner.batch_execute(&format!("{NO_GUARD} {RECORDED_IN_COMMENTS}")).unwrap();
    owner.batch_execute("drop policy multigres_isolation_user_id on lost").unwrap();
    owner.batch_execute(&SETUP).unwrap();
    let after: Vec<String> = record(&mut owner);
    let same = |line: &&String| !line.starts_with("lost 2");
    assert!(before.iter().filter(same).eq(after.iter().filter(same)), "{before:?} {after:?}");
    assert_eq!(after.len(), before.len(), "what was dropped by hand is still asked for");
    let changed = "policy_changed | policy multigres_isolation on public.lost";
    assert_eq!(findings(&mut owner), [changed], "and is not closed again without being told");
    owner.batch_execute("select multigres_protect('lost')").unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
    assert_eq!(count(&mut owner, "multigres_status() where protected = 'no'"), 0);
    let comments = "pg_policy where obj_description(oid, 'pg_policy') is not null";
    assert_eq!(count(&mut owner, comments), 0);
    owner
        .batch_execute(
            "select multigres_unprotect(name::regclass) from
        unnest('{notes, parts, own, lost}'::text[]) as name",
        )
        .unwrap();
    assert_eq!(count(&mut owner, "pg_policy"), 1, "its own");
    let left = "pg_class where oid = 'notes'::regclass
        and not relrowsecurity and relacl::text ~ 'app_user=t/'";
    assert_eq!(count(&mut owner, left), 1, "the privilege that was taken is given back");
    let own = "pg_class where oid = 'own'::regclass and relrowsecurity and not relforcerowsecurity";
    assert_eq!(count(&mut owner, own), 1, "as it was, with a policy of its own");
}

/// The version before the record had no guard and no verdict: what it left open was told by its
/// status alone.
#[test]
fn what_an_older_version_left_open_is_named_and_refused_until_it_is_mended() {
    let database = set_up_database("upgrade_open");
    let heard = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("postgres", &database);
    config.notice_callback(move |notice| *notices.lock().unwrap() += notice.message());
    let mut owner = config.connect(NoTls).unwrap();
    let tables = ["opened", "policyless"];
    for table in tables.into_iter().chain(["unforced", "off"]) {
        let sql =
            format!("create table {table} (tenant_id text); select multigres_protect('{table}')");
        owner.batch_execute(&sql).unwrap();
    }
    owner.batch_execute(&format!("{NO_GUARD} {RECORDED_IN_COMMENTS}")).unwrap();
    owner
        .batch_execute(
            "delete from multigres.protected;
             drop policy multigres_isolation on opened;
             create policy multigres_isolation on opened as restrictive using (true);
             alter policy multigres_access on opened using (true);
             drop policy multigres_isolation on policyless;
             alter policy multigres_access on policyless using (true);
             alter table unforced no force row level security;
             alter table off disable row level security",
        )
        .unwrap();
    for _ in 0..2 {
        heard.lock().unwrap().clear();
        owner.batch_execute(&SETUP).unwrap();
        let told = heard.lock().unwrap().clone();
        let verdict: Option<String> =
            owner.query_one("select multigres_verdict()", &[]).unwrap().get(0);
        let verdict = verdict.expect("a refusal");
        for table in tables {
            assert!(told.contains(&format!("public.{table} does not hold")), "{table}: {told}");
            assert!(verdict.contains(&format!("public.{table}: ")), "{table}: {verdict}");
        }
    }
    for table in tables {
        owner.batch_execute(&format!("select multigres_protect('{table}')")).unwrap();
    }
    heard.lock().unwrap().clear();
    owner.batch_execute(&SETUP).unwrap();
    assert!(!heard.lock().unwrap().contains("does not hold"));
    let refused = "multigres_verdict() as v where v is not null";
    assert_eq!(count(&mut owner, refused), 0, "and setup.sql has mended the others");
    assert_eq!(findings(&mut owner), [""; 0]);

    // Restored without its record.
    owner
        .batch_execute(&format!(
            "{UNGUARD} alter table unforced no force row level security;
             delete from multigres.protected; delete from multigres.dimensions;
             delete from multigres.tables; {}",
            *SETUP
        ))
        .unwrap();
    assert_eq!(count(&mut owner, refused), 1);
    owner.batch_execute("alter table unforced force row level security").unwrap();
    assert_eq!(count(&mut owner, refused), 0);
}

/// A lock that setup.sql waits for is one that every login then waits behind.
#[test]
fn a_tenant_in_a_transaction_does_not_stop_setup() {
    let database = set_up_database("upgrade_locks");
    let mut owner = cluster().superuser(&database);
    let protect = "create table notes (tenant_id text); select multigres_protect('notes')";
    owner.batch_execute(protect).unwrap();
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    let seal = SealedLogin::new(&database, "acme").seal();
    let options = sealed_options(TENANT_VARIABLE, "acme", &seal);
    let mut tenant = cluster().direct("app_user", &database);
    let mut tenant = tenant.options(&options).connect(NoTls).unwrap();
    tenant.batch_execute("begin; insert into notes values ('acme')").unwrap();
    assert_eq!(count(&mut tenant, "notes"), 1);
    owner.batch_execute(&format!("set lock_timeout = '1s'; {}", *SETUP)).unwrap();

    // What does need the lock gives up, and nothing has changed.
    let held = "begin; lock table multigres.seal_keys in access share mode";
    let mut holder = cluster().superuser(&database);
    drop(tenant);
    owner
        .batch_execute(
            "create role upgrade_super superuser;
             alter table multigres.seal_keys owner to upgrade_super",
        )
        .unwrap();
    holder.batch_execute(held).unwrap();
    owner.batch_execute("reset lock_timeout").unwrap();
    let error = owner.batch_execute(&SETUP).unwrap_err();
    assert_eq!(sqlstate(&error), "55P03");
    owner.batch_execute("rollback").unwrap();
    let timeout: String = owner.query_one("show lock_timeout", &[]).unwrap().get(0);
    assert_eq!(timeout, "0", "as it was");
    holder.batch_execute("rollback").unwrap();
    owner.batch_execute(&SETUP).unwrap();
}
