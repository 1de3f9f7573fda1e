// The lookup in Node.js, without packages: its own HTTP server, and one MGET for all requests of a turn of the loop.
//
//     node lookup.node.js PORT REDIS_PORT
"use strict";
const http = require("http");
const net = require("net");

const [port, redisPort] = process.argv.slice(2).map(Number);
const NOBODY = '{"partyList":[]}';
const redis = net.connect({ host: "127.0.0.1", port: redisPort, noDelay: true });
const waiting = []; // the answers under way, in the order in which Redis replies
let keys = [];

function sendKeys() {
  const words = keys.map((key) => `$${Buffer.byteLength(key)}\r\n${key}\r\n`);
  redis.write(`*${keys.length + 1}\r\n$4\r\nMGET\r\n${words.join("")}`);
  keys = [];
}

let rest = "";
redis.setEncoding("latin1");
redis.on("data", (data) => {
  const text = rest + data;
  let begin = 0;
  for (let end; (end = text.indexOf("\r\n", begin)) >= 0; ) {
    let next = end + 2;
    if (text[begin] === "$") {
      const size = Number(text.slice(begin + 1, end));
      if (size >= 0 && text.length < next + size + 2) break; // the rest of the value has not arrived
      writeAnswer(waiting.shift(), size < 0 ? NOBODY : text.slice(next, next + size));
      if (size >= 0) next += size + 2;
    } else if (text[begin] !== "*") {
      throw new Error(text.slice(begin, end));
    }
    begin = next;
  }
  rest = text.slice(begin);
});

function writeAnswer(response, body) {
  response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
  response.end(body, "latin1");
}

http
  .createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const [, , type, identifier] = request.url.split("/");
    if (keys.push(`p:${type}:${identifier}`) === 1) setImmediate(sendKeys);
    waiting.push(response);
  })
  .listen(port, "127.0.0.1");
