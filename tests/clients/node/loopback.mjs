// Loaded before a server that would listen everywhere at a fixed port: it listens on loopback at a free one instead,
// says `{"port": N}` in one line, and ends when its standard input ends.
import { Server } from 'node:net';

const { listen } = Server.prototype;
Server.prototype.listen = function (...given) {
    const then = given.filter(one => typeof one === 'function');
    this.once('listening', () => console.log(JSON.stringify({ port: this.address().port })));
    return listen.call(this, 0, 'localhost', ...then);
};
process.stdin.on('end', () => process.exit(0)).resume();
