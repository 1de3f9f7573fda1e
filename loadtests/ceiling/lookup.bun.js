// The lookup in Bun: its own HTTP server, and its own Redis client, which sends the commands of one turn together.
//
//     bun lookup.bun.js PORT REDIS_PORT
import { RedisClient } from "bun";

const [port, redisPort] = process.argv.slice(2).map(Number);
const NOBODY = '{"partyList":[]}';
const PREFIX = "/participants/";
const headers = { "content-type": "application/json" };

const redis = new RedisClient(`redis://127.0.0.1:${redisPort}`, { enableAutoPipelining: true });
await redis.connect();

Bun.serve({
  port,
  hostname: "127.0.0.1",
  async fetch({ url }) {
    const begin = url.indexOf(PREFIX) + PREFIX.length;
    const slash = url.indexOf("/", begin);
    const body = await redis.get(`p:${url.slice(begin, slash)}:${url.slice(slash + 1)}`);
    return new Response(body ?? NOBODY, { headers });
  },
});
