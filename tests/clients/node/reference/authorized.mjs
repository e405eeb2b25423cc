// What a client does when a server asks who it is: finds the authorization server, registers, goes through the
// authorization code flow and asks again, with the official SDK's `auth`. The "browser" here is one request whose
// redirect is read instead of followed. Credentials and tokens are kept apart by issuer.
import { auth, computeScopeUnion, extractWWWAuthenticateParams } from '@modelcontextprotocol/client';

const CALLBACK = 'http://localhost:9/callback';
const DOCUMENT = 'https://conformance-test.local/client-metadata.json';
const ATTEMPTS = 2; // how often more is asked for before a refusal is believed

class Person {
    redirectUrl = CALLBACK;
    clientMetadataUrl = DOCUMENT;
    clientMetadata = {
        client_name: 'tollgate-reference-client',
        redirect_uris: [CALLBACK],
        grant_types: ['authorization_code', 'refresh_token'],
        application_type: 'native'
    };
    clients = new Map();
    held = new Map();
    latest = undefined;

    constructor({ client_id, client_secret }) {
        if (client_id !== undefined) {
            this.registered = { client_id, client_secret };
        }
    }

    clientInformation(at) {
        return this.clients.get(at?.issuer) ?? this.registered;
    }

    saveClientInformation(found, at) {
        this.clients.set(at?.issuer, found);
    }

    tokens(at) {
        return at === undefined ? this.latest : this.held.get(at.issuer);
    }

    saveTokens(found, at) {
        this.held.set(at?.issuer, found);
        this.latest = found;
    }

    saveCodeVerifier(verifier) {
        this.verifier = verifier;
    }

    codeVerifier() {
        return this.verifier;
    }

    invalidateCredentials(what) {
        if (what !== 'verifier') {
            this.held.clear();
            this.latest = undefined;
        }
        if (what === 'all' || what === 'client') {
            this.clients.clear();
        }
    }

    async redirectToAuthorization(address) {
        const answer = await fetch(address, { redirect: 'manual' });
        this.returned = new URL(answer.headers.get('location')).searchParams;
    }
}

// fetch as one that answers challenges: 401 by getting a token, 403 by getting one that may do more.
export function authorized(server, known) {
    const person = new Person(known);

    async function permitted(answer) {
        const { resourceMetadataUrl, scope: challenged } = extractWWWAuthenticateParams(answer);
        const scope = computeScopeUnion(person.latest?.scope, challenged);
        const asked = { serverUrl: server, resourceMetadataUrl, scope, forceReauthorization: answer.status === 403 };
        if ((await auth(person, asked)) === 'REDIRECT') {
            const [code, iss] = [person.returned.get('code'), person.returned.get('iss') ?? undefined];
            await auth(person, { ...asked, authorizationCode: code, iss });
        }
    }

    return async (input, init) => {
        for (let attempt = 0; ; attempt += 1) {
            const headers = new Headers(init?.headers);
            if (person.latest !== undefined) {
                headers.set('authorization', `Bearer ${person.latest.access_token}`);
            }
            const answer = await fetch(input, { ...init, headers });
            if ((answer.status !== 401 && answer.status !== 403) || attempt === ATTEMPTS) {
                return answer;
            }
            await permitted(answer);
        }
    };
}
