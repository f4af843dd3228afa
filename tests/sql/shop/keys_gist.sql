-- What needs btree_gist once the tenant is in it.
alter table forms add constraint spans exclude using gist (span with &&) where (c > 0);
create index ranges on forms using gist (span);
