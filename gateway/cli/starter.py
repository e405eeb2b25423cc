"""The configuration that `tollgate check --example` prints: small, commented, and accepted by `check` as it stands."""

STARTER = """\
# Tollgate: a configuration to start from. Every key with its default: tollgate check --reference
# Check it with `tollgate check gateway.yaml`, serve it with `tollgate serve --config gateway.yaml`.

listen: 127.0.0.1:8080            # the data plane; beyond loopback it needs tls and public_url
data_dir: var                     # the signed log, keys, indexes: keep it on a local disk and back it up

admin:
  listen: 127.0.0.1:8081          # status, records, metrics, the log's files
  token: {file: var/admin.token}  # made at the first start

policy:
  bundle: policies                # your .rego files: package tollgate, rule `decision`; nothing is allowed by default

trust:
  # Who may say who a caller is. Uncomment one of the two, or both.
  # issuers:
  #   - name: idp
  #     issuer: https://idp.example
  #     audience: tollgate
  #     jwks: {url: "https://idp.example/.well-known/jwks.json"}
  # api_keys: {file: keys.yaml}   # entries from: tollgate keys new api --id ci
  issuers: []

upstreams:
  tools:
    url: http://127.0.0.1:9001/mcp
    protocol: mcp                 # mcp, a2a, openai, anthropic, http
    # credentials: {header: Authorization, scheme: Bearer, value: {env: TOOLS_TOKEN}}

routes:
  - name: tools
    match: {path: /tools}         # callers use http://127.0.0.1:8080/tools instead of the upstream's URL
    upstream: tools
    auth: required                # anonymous: policy sees the subject `anonymous`

limits:
  - {name: per-agent, key: [subject.id, route], rate: 100/minute, burst: 20}
"""
