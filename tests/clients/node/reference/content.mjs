// What the reference server offers: plain tools, resources and prompts, by the names that the conformance suite asks for.
//
// Each is one entry of a table; `offer` registers them on a server of the official SDK. Nothing here knows of HTTP.
import { fromJsonSchema, ResourceTemplate } from '@modelcontextprotocol/server';

// The smallest PNG (one red pixel) and the smallest WAV (no samples).
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC';
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=';

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const STEP_MS = 50;

export const text = words => ({ content: [{ type: 'text', text: words }] });
export const shape = (properties = {}, required = []) => ({ type: 'object', properties, required });

const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const embedded = (uri, mimeType, words) => ({ type: 'resource', resource: { uri, mimeType, text: words } });

// An older client is asked over its own stream; what it cannot do is told as the tool's own words.
const asking = (method, params, tell) => async (given, ctx) => {
    try {
        return text(tell(await ctx.mcpReq.send({ method, params: params(given) })));
    } catch (error) {
        return text(`The client cannot do ${method}: ${error.message}`);
    }
};
const form = (message, properties) => () => ({ message, requestedSchema: { ...shape(properties), required: [] } });
const filled = answer => `Elicitation completed: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`;

const titled = (word, places) => places.map((place, index) => ({ const: `value${index + 1}`, title: `${place} ${word}` }));
const ORDER = ['First', 'Second', 'Third'];
const THREE = ['option1', 'option2', 'option3'];

// name: [description, properties of the arguments, what it does]
const TOOLS = {
    test_simple_text: ['Answers with a text', {}, () => text('This is a simple text response for testing.')],
    test_image_content: ['Answers with an image', {}, () => ({ content: [image] })],
    test_audio_content: [
        'Answers with a sound', {}, () => ({ content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] })
    ],
    test_embedded_resource: [
        'Answers with a resource', {},
        () => ({ content: [embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')] })
    ],
    test_multiple_content_types: [
        'Answers with a text, an image and a resource', {},
        () => ({
            content: [
                { type: 'text', text: 'Multiple content types test:' },
                image,
                embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}')
            ]
        })
    ],
    test_error_handling: [
        'Always fails', {},
        () => {
            throw new Error('This tool intentionally returns an error for testing');
        }
    ],
    test_tool_with_logging: [
        'Logs three times while it works', {},
        async (_given, ctx) => {
            for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
                await ctx.mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data } });
                await pause(STEP_MS);
            }
            return text('logged');
        }
    ],
    test_tool_with_progress: [
        'Reports its progress three times, to those who asked for it', {},
        async (_given, ctx) => {
            const progressToken = ctx.mcpReq._meta?.progressToken;
            for (const progress of [0, 50, 100]) {
                if (progressToken !== undefined) {
                    const params = { progressToken, progress, total: 100 };
                    await ctx.mcpReq.notify({ method: 'notifications/progress', params });
                }
                await pause(STEP_MS);
            }
            return text(`done for ${progressToken ?? 'nobody'}`);
        }
    ],
    test_sampling: [
        "Has the client's model answer", { prompt: { type: 'string' } },
        asking(
            'sampling/createMessage',
            ({ prompt }) => ({ messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 100 }),
            answer => `LLM response: ${answer.content.text}`
        )
    ],
    test_elicitation: [
        'Asks the user', { message: { type: 'string' } },
        asking(
            'elicitation/create',
            ({ message }) => ({
                message,
                requestedSchema: shape({ username: { type: 'string' }, email: { type: 'string' } }, ['username', 'email'])
            }),
            answer => `User response: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`
        )
    ],
    test_elicitation_sep1034_defaults: [
        'Asks the user, with a default for each type', {},
        asking(
            'elicitation/create',
            form('Please look through these values', {
                name: { type: 'string', default: 'John Doe' },
                age: { type: 'integer', default: 30 },
                score: { type: 'number', default: 95.5 },
                status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
                verified: { type: 'boolean', default: true }
            }),
            filled
        )
    ],
    test_elicitation_sep1330_enums: [
        'Asks the user to choose, in each of the five forms of a choice', {},
        asking(
            'elicitation/create',
            form('Please choose', {
                untitledSingle: { type: 'string', enum: THREE },
                titledSingle: { type: 'string', oneOf: titled('Option', ORDER) },
                legacyEnum: {
                    type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three']
                },
                untitledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { type: 'string', enum: THREE } },
                titledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { anyOf: titled('Choice', ORDER) } }
            }),
            filled
        )
    ],
    test_streaming_elicitation: ['Answers at once and asks nothing', {}, () => text('nothing was asked')],
    test_logging_tool: [
        'Logs, if the request wants to hear of it', {},
        async (_given, ctx) => {
            await ctx.mcpReq.log('info', 'heard by those who asked for it');
            return text('done');
        }
    ],
    test_x_mcp_header: [
        'Has an argument that a header repeats',
        { region: { type: 'string', 'x-mcp-header': 'Region' }, level: { type: 'integer' } },
        ({ region }) => text(`region ${region ?? 'unknown'}`)
    ]
};

// A schema with the whole vocabulary of JSON Schema 2020-12, to be listed word for word.
const VOCABULARY = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: {
        address: {
            $anchor: 'addressDef', type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } }
        }
    },
    properties: {
        name: { type: 'string' },
        address: { $ref: '#/$defs/address' },
        contactMethod: { type: 'string', enum: ['phone', 'email'] },
        phone: { type: 'string' },
        email: { type: 'string' }
    },
    allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
    if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
    then: { required: ['phone'] },
    else: { required: ['email'] },
    additionalProperties: false
};

// name, URI, what it holds
const RESOURCES = [
    ['static-text', 'test://static-text', { mimeType: 'text/plain', text: 'This is the content of the static text resource.' }],
    ['static-binary', 'test://static-binary', { mimeType: 'image/png', blob: PNG }],
    ['watched-resource', 'test://watched-resource', { mimeType: 'text/plain', text: 'Somebody watches this' }]
];

const said = (...contents) => ({ messages: contents.map(content => ({ role: 'user', content })) });
const words = string => ({ type: 'text', text: string });

// name: [description, names of the arguments, what it says]
const PROMPTS = {
    test_simple_prompt: ['Says one thing', [], () => said(words('This is a simple prompt for testing.'))],
    test_prompt_with_arguments: [
        'Says its arguments', ['arg1', 'arg2'],
        ({ arg1, arg2 }) => said(words(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))
    ],
    test_prompt_with_embedded_resource: [
        'Brings a resource', ['resourceUri'],
        ({ resourceUri }) =>
            said(
                embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.'),
                words('Please process the embedded resource above.')
            )
    ],
    test_prompt_with_image: ['Brings an image', [], () => said(image, words('Please analyze the image above.'))]
};

export function tool(server, name, description, schema, run) {
    server.registerTool(name, { description, inputSchema: fromJsonSchema(schema) }, async (given, ctx) => run(given, ctx));
}

export function prompt(server, name, description, names, run) {
    const properties = Object.fromEntries(names.map(one => [one, { type: 'string' }]));
    const argsSchema = fromJsonSchema(shape(properties, names));
    server.registerPrompt(name, { description, argsSchema }, async (given, ctx) => run(given, ctx));
}

export function offer(server) {
    for (const [name, [description, properties, run]] of Object.entries(TOOLS)) {
        tool(server, name, description, shape(properties), run);
    }
    tool(server, 'json_schema_2020_12_tool', 'Has a schema of many words', VOCABULARY, given => text(JSON.stringify(given)));
    for (const [name, uri, { mimeType, ...held }] of RESOURCES) {
        const read = async () => ({ contents: [{ uri, mimeType, ...held }] });
        server.registerResource(name, uri, { description: `Holds ${mimeType}`, mimeType }, read);
    }
    server.registerResource(
        'template',
        new ResourceTemplate('test://template/{id}/data', { list: undefined }),
        { description: 'Holds what its address says', mimeType: 'application/json' },
        async (uri, { id }) => {
            const held = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
            return { contents: [{ uri: uri.href, mimeType: 'application/json', text: held }] };
        }
    );
    for (const [name, [description, names, run]] of Object.entries(PROMPTS)) {
        prompt(server, name, description, names, run);
    }
}
