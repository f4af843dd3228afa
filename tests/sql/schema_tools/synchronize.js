// Prints what `synchronize` would run, one statement a line, and runs it.
require('reflect-metadata');
const { DataSource } = require('typeorm');
const { notes } = require('./typeorm.js');

if (process.argv[2] === 'undeclared') {
    delete notes.options.columns.tenant_id.default;
    notes.options.indices = [];
}

async function main() {
    const source = new DataSource({ type: 'postgres', url: process.env.URL, entities: [notes] });
    await source.initialize();
    const { upQueries } = await source.driver.createSchemaBuilder().log();
    upQueries.forEach(({ query }) => console.log(query));
    await source.synchronize();
    await source.destroy();
}

main().catch((error) => {
    console.error(error.message);
    process.exit(1);
});
