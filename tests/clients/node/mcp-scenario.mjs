// The scenario of both TypeScript MCP clients. `call` calls a tool in the client's own way.
export async function scenario(client, seen, call) {
    const tool = (name, args, options) => () => call({ name, arguments: args }, options);
    await seen.step('connect', () => ({
        server: client.getServerVersion(),
        capabilities: client.getServerCapabilities(),
        instructions: client.getInstructions(),
        version: client.getNegotiatedProtocolVersion?.()
    }));
    await seen.step('tools', () => client.listTools());
    await seen.step('call', tool('get_forecast', { city: 'Oslo' }));
    const progress = [];
    const onprogress = moved => progress.push(moved);
    await seen.step('call, streamed', tool('get_forecast', { city: 'Oslo', days: 3 }, { onprogress }));
    await seen.step('progress', () => progress);
    await seen.step('bad arguments', tool('get_forecast', { town: 1 }));
    await seen.step('resources', () => client.listResources());
    await seen.step('templates', () => client.listResourceTemplates());
    await seen.step('read', () => client.readResource({ uri: 'weather://cities' }));
    await seen.step('read a template', () => client.readResource({ uri: 'weather://city/Bergen' }));
    await seen.step('no such resource', () => client.readResource({ uri: 'weather://nothing' }));
    await seen.step('prompts', () => client.listPrompts());
    await seen.step('prompt', () => client.getPrompt({ name: 'packing', arguments: { city: 'Oslo' } }));
    await seen.step('denied', tool('delete_station', { station: '1' }));
    await seen.step('after', tool('get_forecast', { city: 'Bergen' }));
    const cities = ['Oslo', 'Bergen', 'Madrid', 'Lima'];
    await seen.step('at once', () => Promise.all(cities.map(city => tool('get_forecast', { city })())));
}
