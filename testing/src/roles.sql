-- The roles of the test cluster. {PASSWORD} stands for the password that all of them have.
create role tenant_tables nologin;

-- Each method of authentication in pg_hba.conf has a group and a login role. trust_user and
-- app_user are let in on trust.
create role by_cleartext nologin;
create role by_md5 nologin;
create role by_scram nologin;
set password_encryption = 'md5';
create role md5_user login password '{PASSWORD}' in role tenant_tables, by_md5;
set password_encryption = 'scram-sha-256';
create role scram_user login password '{PASSWORD}' in role tenant_tables, by_scram;
create role clear_user login password '{PASSWORD}' in role tenant_tables, by_cleartext;
create role reject_user login password '{PASSWORD}' in role tenant_tables;
create role cert_user login in role tenant_tables;
create role trust_user login in role tenant_tables;
create role app_user login password '{PASSWORD}' in role tenant_tables;

-- Refused by PostgreSQL itself, each for a reason of its own.
create role expired_user login password '{PASSWORD}' valid until '2001-01-01' in role by_scram;
create role nologin_user nologin;
create role full_user login connection limit 0;

-- Row-level security does not hold these, or they can become someone whom it does not hold.
create role other_superuser login superuser;
create role bypassrls_user login bypassrls;
create role superuser_group nologin superuser;
create role bypassrls_group nologin bypassrls;
create role superuser_member login in role superuser_group, tenant_tables;
create role bypassrls_member login in role bypassrls_group, tenant_tables;
create role distant_group nologin in role superuser_group;
create role distant_member login noinherit in role distant_group, tenant_tables;
