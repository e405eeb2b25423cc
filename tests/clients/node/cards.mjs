// Agent cards signed and verified by the official JavaScript SDK, unmodified; the same questions as clients/a2a/cards.py.
import { AgentCard, generateAgentCardSignature, verifyAgentCardSignature } from '@a2a-js/sdk';
import { createAuthenticatingFetchWithRetry, DefaultAgentCardResolver } from '@a2a-js/sdk/client';

let text = '';
for await (const chunk of process.stdin) {
    text += chunk;
}
const asked = JSON.parse(text);
console.debug = () => {}; // the SDK says there which signature it passed over

const verdict = async (card, key) => {
    try {
        await verifyAgentCardSignature(key)(card);
        return { verified: true };
    } catch (error) {
        return { verified: false, error: error.message };
    }
};
const named = (keys, kid) => {
    const found = keys.find(jwk => jwk.kid === kid);
    if (!found) {
        throw new Error(`no key ${kid}`);
    }
    return found;
};

const answers = {
    sign: async () => {
        const sign = generateAgentCardSignature(asked.jwk, asked.header);
        return AgentCard.toJSON(await sign(AgentCard.fromJSON(asked.card)));
    },
    verify: () => verdict(AgentCard.fromJSON(asked.card), async kid => named(asked.jwks.keys, kid)),
    fetch: async () => {
        const fetchImpl = createAuthenticatingFetchWithRetry(fetch, {
            headers: async () => ({ Authorization: `Bearer ${asked.credential}` }),
            shouldRetryWithHeaders: async () => undefined
        });
        const card = await new DefaultAgentCardResolver({ fetchImpl }).resolve(asked.url);
        const seen = [];
        const found = await verdict(card, async (kid, jku) => {
            seen.push({ jku, kid });
            return named((await (await fetch(jku)).json()).keys, kid);
        });
        return { ...found, ...seen[0], card: AgentCard.toJSON(card) };
    }
};
console.log(JSON.stringify(await answers[asked.do]()));
