// A DFSP that is Mojaloop's own client: it calls with MojaloopRequests, and verifies what it gets with the JWS validator.
// Its settings are a JSON line on stdin: {"fspId","peer","apiType","key","keys","parties"}; then calls, a line each:
// {"id":1,"do":"getParties","arguments":[…]}.  On stdout, a line each: {"port":N}, {"id":1,"error":null or TEXT},
// {"received":{method,url,headers,body},"jws":null or TEXT or "unsigned"}.
// As a payee it answers GET /parties/{Type}/{ID}[/{SubId}] from `parties`: a party, or an error code.
'use strict';

const http = require('node:http');
const { createInterface } = require('node:readline');
const { Jws, MojaloopRequests } = require('@mojaloop/sdk-standard-components');

const silent = () => undefined;
const logger = { isDebugEnabled: false, isVerboseEnabled: false };
for (const name of ['debug', 'verbose', 'info', 'warn', 'error', 'log', 'trace']) logger[name] = silent;
logger.child = logger.push = () => logger;
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

let client;
let settings;

function verify(method, headers, body) {
    if (method === 'GET') return null;
    if (!headers['fspiop-signature']) return 'unsigned';
    try {
        new Jws.validator({ validationKeys: settings.keys, logger }).validate({ headers, body: JSON.parse(body) });
        return null;
    } catch (error) {
        return error.message;
    }
}

async function answer(url, source) {
    const [type, id, subId] = url.split('/').slice(2);
    const found = settings.parties[`${type}/${id}`];
    if (typeof found === 'string') {
        const errorInformation = { errorCode: found, errorDescription: 'No such party here' };
        await client.putPartiesError(type, id, subId, { errorInformation }, source);
    } else {
        await client.putParties(type, id, subId, { party: found }, source);
    }
}

const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
        const { method, url, headers } = request;
        const body = Buffer.concat(chunks).toString();
        response.writeHead(method === 'GET' ? 202 : 200).end();
        say({ received: { method, url, headers, body }, jws: verify(method, headers, body) });
        if (method === 'GET' && settings.parties) {
            answer(url, headers['fspiop-source']).catch((error) => say({ failed: error.message }));
        }
    });
});

async function run() {
    for await (const line of createInterface({ input: process.stdin })) {
        const { id, do: name, arguments: given, ...rest } = JSON.parse(line);
        if (!client) {
            settings = rest;
            client = new MojaloopRequests({
                logger,
                dfspId: rest.fspId,
                peerEndpoint: rest.peer,
                apiType: rest.apiType,
                tls: { enabled: false },
                jwsSign: Boolean(rest.key),
                jwsSigningKey: rest.key,
                resourceVersions: Object.fromEntries(
                    ['participants', 'parties'].map((each) => [each, { contentVersion: '2.0', acceptVersion: '2' }]),
                ),
                httpConfig: {},
                retryConfig: { retries: 0 },
            });
            server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
        } else {
            // Its names for what it cannot do are made of what it can: it has no GET /participants, no single POST.
            const call = {
                getParticipants: (type, identifier) => client._get(`participants/${type}/${identifier}`, 'participants'),
                postParticipant: (type, identifier, body) =>
                    client._post(`participants/${type}/${identifier}`, 'participants', body),
            }[name] || client[name].bind(client);
            call(...given).then(() => say({ id, error: null }), (error) => say({ id, error: error.message }));
        }
    }
    server.close();
}

run();
