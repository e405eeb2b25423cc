// What a driver prints: each step of its scenario by name, with what the unmodified client saw.
//
// A driver reads one JSON object from standard input, so that no secret is an argument, and prints one JSON list of
// `{step, saw}` or `{step, error}`.
import { readFileSync } from 'node:fs';

export const given = () => JSON.parse(readFileSync(0, 'utf8'));

export class Transcript {
    #steps = [];

    // One step. An error is what the client saw, and the scenario goes on.
    async step(name, what) {
        try {
            const value = await what();
            this.#steps.push({ step: name, saw: value ?? null });
            return value;
        } catch (error) {
            const said = { class: error.constructor.name, message: error.message };
            for (const key of ['code', 'data', 'status', 'statusCode', 'reason', 'metadata', 'details']) {
                if (error[key] !== undefined) {
                    said[key] = error[key];
                }
            }
            this.#steps.push({ step: name, error: said });
            return undefined;
        }
    }

    print() {
        process.stdout.write(JSON.stringify(this.#steps));
    }
}

export async function all(events) {
    const found = [];
    for await (const event of events) {
        found.push(event);
    }
    return found;
}
