import { integer, pgTable, text } from 'drizzle-orm/pg-core';

export const notes = pgTable('notes', {
    id: integer('id').primaryKey(),
    tenantId: text('tenant_id').notNull(),
    body: text('body'),
});
