// The official JavaScript A2A client, unmodified: the card is read at the URL and followed by the binding asked for.
import { ClientFactory, ClientFactoryOptions, createAuthenticatingFetchWithRetry, DefaultAgentCardResolver,
    JsonRpcTransportFactory, RestTransportFactory } from '@a2a-js/sdk/client';
import { Role } from '@a2a-js/sdk';
import { all, given, Transcript } from './transcript.mjs';

const asked = given();
const seen = new Transcript();
const credential = {
    headers: async () => ({ Authorization: `Bearer ${asked.credential}` }),
    shouldRetryWithHeaders: async () => undefined
};
const fetchImpl = createAuthenticatingFetchWithRetry(fetch, credential);
const cardResolver = new DefaultAgentCardResolver({ fetchImpl });
const factory = new ClientFactory({
    ...ClientFactoryOptions.default,
    transports: [new JsonRpcTransportFactory({ fetchImpl }), new RestTransportFactory({ fetchImpl })],
    preferredTransports: [asked.binding],
    cardResolver
});

const said = (text, more = {}) => ({
    tenant: '',
    message: {
        messageId: `m-${text}`, contextId: '', taskId: '', role: Role.ROLE_USER, metadata: undefined, extensions: [],
        parts: [{ content: { $case: 'text', value: text }, metadata: undefined, filename: '', mediaType: 'text/plain' }],
        referenceTaskIds: [], ...more
    },
    configuration: undefined,
    metadata: undefined
});
const taskOf = events => {
    for (const { payload } of events) {
        if (payload.$case === 'task') {
            return { taskId: payload.value.id, contextId: payload.value.contextId };
        }
        if (payload.$case === 'statusUpdate') {
            return { taskId: payload.value.taskId, contextId: payload.value.contextId };
        }
    }
    throw new Error('no task came');
};

await seen.step('card', () => cardResolver.resolve(asked.url));
const client = await factory.createFromUrl(asked.url);
const stream = message => () => all(client.sendMessageStream(message));
await seen.step('send', () => client.sendMessage(said('a table for two')));
const { taskId, contextId } = taskOf(await seen.step('send, streamed', stream(said('a table for three'))));
await seen.step('get', () => client.getTask({ tenant: '', id: taskId }));
await seen.step('no such task', () => client.getTask({ tenant: '', id: 'never-was' }));
await seen.step('list', () => client.listTasks({ tenant: '', contextId, status: 0, pageToken: '' }));
const waiting = taskOf(await seen.step('asked back', stream(said('a table'))));
await seen.step('answered', stream(said('one for four', waiting)));
const given_up = taskOf(await stream(said('a chair'))());
await seen.step('cancel', () => client.cancelTask({ tenant: '', id: given_up.taskId, metadata: undefined }));
await seen.step('denied', () => client.createTaskPushNotificationConfig({
    tenant: '', taskId, id: 'hook', url: 'https://hook.example/x', token: '', authentication: undefined
}));
await seen.step('after', stream(said('a table for five')));
seen.print();
