// The part of the reference server in which a call takes several rounds (protocol 2026-07-28): the server answers with
// what it still needs, the client calls again with the answers. What a round must remember travels sealed in the
// request's own state, because the server keeps nothing between two requests.
import { acceptedContent, CLIENT_CAPABILITIES_META_KEY, inputRequired } from '@modelcontextprotocol/server';
import { prompt, shape, text, tool } from './content.mjs';

const asked = (message, name, type = 'string') =>
    inputRequired.elicit({ message, requestedSchema: shape({ [name]: { type } }, [name]) });
const completed = (question, maxTokens) =>
    inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: question } }], maxTokens });

const NAME = asked('What is your name?', 'name');
const SURE = asked('Please confirm', 'ok', 'boolean');

// What a client answered to the request `key`, undefined where it did not, or not in the way that was asked for.
const form = (ctx, key, name) => acceptedContent(ctx.mcpReq.inputResponses, key)?.[name];
const completion = (ctx, key) => ctx.mcpReq.inputResponses?.[key]?.content?.text;
const roots = (ctx, key) => {
    const found = ctx.mcpReq.inputResponses?.[key]?.roots;
    return Array.isArray(found) ? found.map(root => root.uri) : undefined;
};

export function offerRounds(server, seal) {
    const offer = (name, description, run) => tool(server, name, description, shape(), run);
    const need = async (inputRequests, state) =>
        inputRequired(state === undefined ? { inputRequests } : { inputRequests, requestState: await seal.mint(state) });

    offer('test_input_required_result_elicitation', 'Greets who says a name', (_given, ctx) => {
        const name = form(ctx, 'user_name', 'name');
        return typeof name === 'string' ? text(`Hello, ${name}!`) : need({ user_name: NAME });
    });

    offer('test_input_required_result_sampling', "Repeats what the client's model says", (_given, ctx) => {
        const answer = completion(ctx, 'capital_question');
        return answer === undefined
            ? need({ capital_question: completed('What is the capital of France?', 100) })
            : text(`The model says: ${answer}`);
    });

    offer('test_input_required_result_list_roots', 'Repeats the roots of the client', (_given, ctx) => {
        const found = roots(ctx, 'client_roots');
        return found === undefined ? need({ client_roots: inputRequired.listRoots() }) : text(`Roots: ${found.join(' ')}`);
    });

    for (const [name, description] of [
        ['test_input_required_result_request_state', 'Finds its state again in the second round'],
        ['test_input_required_result_tampered_state', 'Refuses a state that is not its own']
    ]) {
        offer(name, description, (_given, ctx) => {
            const state = ctx.mcpReq.requestState();
            const ready = state?.of === name && form(ctx, 'confirm', 'ok') !== undefined;
            return ready ? text('state-ok') : need({ confirm: SURE }, { of: name });
        });
    }

    offer('test_input_required_result_multiple_inputs', 'Needs three things at once', (_given, ctx) => {
        const found = [form(ctx, 'user_name', 'name'), completion(ctx, 'greeting'), roots(ctx, 'client_roots')];
        if (!found.includes(undefined)) {
            return text(found.join(', '));
        }
        const greeting = completed('Generate a greeting', 50);
        return need({ user_name: NAME, greeting, client_roots: inputRequired.listRoots() }, { of: 'three' });
    });

    offer('test_input_required_result_multi_round', 'Asks twice, one thing after the other', (_given, ctx) => {
        const heard = ctx.mcpReq.requestState()?.heard;
        if (heard === undefined) {
            return need({ step1: asked('Step 1: What is your name?', 'name') }, { heard: [] });
        }
        if (heard.length === 0) {
            const name = form(ctx, 'step1', 'name') ?? 'Somebody';
            return need({ step2: asked('Step 2: What is your favorite color?', 'color') }, { heard: [name] });
        }
        return text(`${heard[0]} likes ${form(ctx, 'step2', 'color') ?? 'no color'}`);
    });

    offer('test_input_required_result_capabilities', 'Asks only for what the client can do', (_given, ctx) => {
        if (ctx.mcpReq.inputResponses !== undefined) {
            return text('that will do');
        }
        const able = ctx.mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
        const all = { elicitation: { user_name: NAME }, sampling: { greeting: completed('Say hello', 20) } };
        const requests = Object.entries(all).flatMap(([name, request]) => (able[name] === undefined ? [] : [request]));
        return requests.length > 0 ? need(Object.assign({}, ...requests)) : text('this client can do nothing for it');
    });

    // The SDK itself refuses to ask for what the request did not declare: that is what this one is for.
    offer('test_missing_capability', "Cannot do without the client's model", (_given, ctx) => {
        const answer = completion(ctx, 'answer');
        return answer === undefined ? need({ answer: completed('Say one word', 10) }) : text(answer);
    });

    prompt(server, 'test_input_required_result_prompt', 'Says what the user wants it to', [], (_given, ctx) => {
        const context = form(ctx, 'user_context', 'context');
        if (typeof context !== 'string') {
            return need({ user_context: asked('What context should the prompt use?', 'context') });
        }
        return { messages: [{ role: 'user', content: { type: 'text', text: `Mind this: ${context}` } }] };
    });
}
