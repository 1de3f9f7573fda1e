// node --require: the package grpc is a native library, which `npm install --ignore-scripts` does not build.  The scheme
// adapter loads it for a sidecar that collects events, and never calls it here.
'use strict';

const Module = require('node:module');

const load = Module._load;
const absent = new Proxy(function absent() {}, { get: () => absent, apply: () => absent, construct: () => absent });

Module._load = function loadWithoutGrpc(name, ...rest) {
    return name === 'grpc' ? absent : load.call(this, name, ...rest);
};
