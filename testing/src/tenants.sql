-- The database `tenants`: one table with one dimension, one with two.
create table contacts (id int primary key, tenant_id text not null, name text not null);
insert into contacts values
    (1, 'acme', 'Ada'), (2, 'acme', 'Alan'),
    (3, 'globex', 'Grace'), (4, 'globex', 'Guido'), (5, 'globex', 'Gerald');
alter table contacts enable row level security;
alter table contacts force row level security;
create policy one_tenant on contacts
    using (tenant_id = nullif(current_setting('app.current_tenant_id', true), ''));

create table list_items (list_id text not null, user_id text not null, body text not null);
insert into list_items values
    ('list123', 'user456', 'mine in my list'), ('list123', 'user789', 'another''s in my list'),
    ('list999', 'user456', 'mine in another list');
alter table list_items enable row level security;
alter table list_items force row level security;
create policy one_list_one_user on list_items using (
    list_id = nullif(current_setting('app.current_list_id', true), '')
    and user_id = nullif(current_setting('app.current_user_id', true), ''));

grant select, insert, update, delete on contacts, list_items to tenant_tables;
