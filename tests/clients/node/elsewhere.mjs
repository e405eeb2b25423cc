// Loaded before a client whose server's name is to lead to a gateway: connections to the port that is named first in
// CONNECT_INSTEAD end at the second one. What the client asks for, and by which name, stays as it is.
import net from 'node:net';

const [asked, instead] = process.env.CONNECT_INSTEAD.split(' ').map(Number);
const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...given) {
    const options = Array.isArray(given[0]) ? given[0][0] : given[0];
    if (Number(options?.port) === asked) {
        options.port = instead;
        options.host = '127.0.0.1';
    }
    return connect.apply(this, given);
};
