// A certified OpenID provider on a loopback port, with one client for people and one for programs.
// Usage: node provider.mjs DIRECTORY_OF_OIDC_PROVIDER PORT ALGORITHM.  It prints its issuer when it listens.

import { generateKeyPairSync } from "node:crypto";

const [directory, port, algorithm] = process.argv.slice(2);
const { default: Provider } = await import(`${directory}/lib/index.js`);

const issuer = `http://127.0.0.1:${port}`;
const AUDIENCE = "urn:alias-oracle";

const kinds = {
    RS256: ["rsa", { modulusLength: 2048 }],
    PS256: ["rsa", { modulusLength: 2048 }],
    ES256: ["ec", { namedCurve: "P-256" }],
    Ed25519: ["ed25519", {}],
};
const [kind, options] = kinds[algorithm];
const { privateKey } = generateKeyPairSync(kind, options);

const provider = new Provider(issuer, {
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg: algorithm, kid: `${algorithm} key` }] },
    clients: [
        {
            client_id: "console",
            redirect_uris: ["https://oracle.example/console/signed-in"],
            client_secret: "a secret of the console",
            grant_types: ["authorization_code"],
            response_types: ["code"],
            id_token_signed_response_alg: algorithm,
        },
        {
            client_id: "greenbank",
            client_secret: "a secret of greenbank",
            redirect_uris: [],
            response_types: [],
            grant_types: ["client_credentials"],
            id_token_signed_response_alg: algorithm,
        },
    ],
    enabledJWA: { idTokenSigningAlgValues: [algorithm] },
    cookies: { keys: ["a key of a test"] },
    pkce: { required: () => true },
    claims: { openid: ["sub"] },
    findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    extraTokenClaims: (context, token) => (token.accountId ? { realm_access: { roles: ["HUB-Admin"] } } : undefined),
    features: {
        clientCredentials: { enabled: true },
        resourceIndicators: {
            enabled: true,
            defaultResource: () => AUDIENCE,
            useGrantedResource: () => true,
            getResourceServerInfo: () => ({
                scope: "",
                audience: "alias-oracle",
                accessTokenFormat: "jwt",
                jwt: { sign: { alg: algorithm } },
            }),
        },
    },
});

provider.listen(Number(port), "127.0.0.1", () => console.log(`listening ${issuer}`));
