// Signs and verifies with Mojaloop's own library, for the tests: a JSON request a line on stdin, a JSON answer a line.
// {"do":"sign","key":PEM,"method":…,"url":…,"headers":{…},"body":{…}}  -> {"headers":{…},"body":TEXT}
// {"do":"verify","keys":{FSP:PEM},"headers":{…},"body":{…}}            -> {"error":null or TEXT}
// {"do":"read","body":{…}}      an ISO 20022 error about a party        -> {"body":{…}} in FSPIOP
'use strict';

const { Jws } = require('@mojaloop/sdk-standard-components');
const { TransformFacades } = require('@mojaloop/ml-schema-transformer-lib');
const { createInterface } = require('node:readline');

const silent = () => undefined;
const logger = { child: () => logger, push: () => logger, debug: silent, error: silent, isDebugEnabled: false };

function sign({ key, method, url, headers, body }) {
    const request = { method, uri: url, headers: { ...headers }, body };
    new Jws.signer({ signingKey: key, logger }).sign(request);
    return { headers: request.headers, body: request.body };
}

function verify({ keys, headers, body }) {
    try {
        new Jws.validator({ validationKeys: keys, logger }).validate({ headers, body });
        return { error: null };
    } catch (error) {
        return { error: error.message };
    }
}

async function read({ body }) {
    const answer = await TransformFacades.FSPIOPISO20022.parties.putError({ body, headers: {} });
    return { body: answer.body };
}

async function run() {
    for await (const line of createInterface({ input: process.stdin })) {
        const request = JSON.parse(line);
        process.stdout.write(`${JSON.stringify(await { sign, verify, read }[request.do](request))}\n`);
    }
}

run();
