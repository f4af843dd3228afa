import { sql } from 'drizzle-orm';
import { index, integer, pgPolicy, pgRole, pgTable, text } from 'drizzle-orm/pg-core';

const appUser = pgRole('app_user').existing();
const ofTheTenant = sql`(tenant_id = ( SELECT public.current_tenant_id() AS current_tenant_id))`;
const theTenant = sql`NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text)`;

const held = () => [
    pgPolicy('multigres_isolation', {
        as: 'restrictive', for: 'all', to: 'public', using: ofTheTenant, withCheck: ofTheTenant,
    }),
    pgPolicy('multigres_access', {
        as: 'permissive', for: 'all', to: appUser, using: ofTheTenant, withCheck: ofTheTenant,
    }),
];

export const notes = pgTable('notes', {
    id: integer('id').primaryKey(),
    tenantId: text('tenant_id').notNull().default(theTenant),
    body: text('body'),
}, (table) => [index('notes_tenant').on(table.tenantId), ...held()]).enableRLS();
