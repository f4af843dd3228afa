const { EntitySchema } = require('typeorm');

exports.notes = new EntitySchema({
    name: 'notes',
    columns: {
        id: { type: 'int', primary: true },
        tenant_id: {
            type: 'text',
            default: () => "NULLIF(current_setting('app.current_tenant_id', true), '')",
        },
        body: { type: 'text', nullable: true },
    },
    indices: [{ name: 'notes_tenant', columns: ['tenant_id'] }],
});
