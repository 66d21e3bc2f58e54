import type { AnyDesc, DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption } from "@bufbuild/protobuf";
import { access, Role_Name } from "#gen/tollgate/v1/access_pb.js";
import type { OpenApi, Operation, Parameter } from "../gateway/openapi/document.ts";
import type { Schema } from "../gateway/openapi/schema.ts";
import { type Html, html } from "./html.ts";
import { style } from "./style.ts";

/** The documentation as one page that needs no script, no font and no network. */
export function createPage(
  document: OpenApi,
  services: readonly DescService[],
  describe: (desc: AnyDesc) => string,
): string {
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([verb, operation]) => ({ path, verb: verb.toUpperCase(), operation })),
  );
  const ofTag = (tag: string) => operations.filter(({ operation }) => operation.tags.includes(tag));
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${document.info.title} ${document.info.version}</title>
<style>${{ html: style }}</style>
</head>
<body>
<nav>
<h1>${document.info.title}</h1>
<a href="#start">Start</a>
<a href="#errors">Errors</a>
${document.tags.map(
  ({ name }) => html`<h2>${name}</h2>
${ofTag(name).map(({ verb, path, operation }) => html`<a href="#${operation.operationId}"><b class="${verb}">${verb}</b> ${path}</a>`)}`,
)}
<h2>gRPC</h2>
${services.map(({ name }) => html`<a href="#${name}">${name}</a>`)}
</nav>
<main>
${introduction(document)}
${document.tags.map(
  ({ name, description }) => html`<h2>${name}</h2><p>${description}</p>
${ofTag(name).map(({ verb, path, operation }) => operationSection(verb, path, operation, document))}`,
)}
<h2>gRPC, gRPC-Web and Connect</h2>
<p>The same operations on the same port. The server answers reflection, so <code>buf curl</code> needs no schema. A list
comes as a stream of pages whose merge is the answer.</p>
${services.map((service) => serviceSection(service, describe))}
</main>
</body>
</html>`.html;
}

function introduction({ info, servers }: OpenApi): Html {
  const url = servers[0]?.url ?? "";
  return html`<h2 id="start">Start</h2>
<p>${info.description}</p>
<p>Ask for a token with your name and password, and send it with every other call:</p>
<pre>curl -X POST ${url}/admin/token/generation -H 'Content-Type: application/json' \\
  -d '{"username":"admin","password":"…"}'
curl ${url}/admin/users -H 'Authorization: Bearer TOKEN'</pre>
<h2 id="errors">Errors</h2>
<p>Every error says what is wrong in <code>message</code>, names the fields in <code>validations</code>, and carries
<code>tracedata</code>. Its <code>code</code> is the call's tracecode: send your own in the header <code>tracecode</code> (a
UUID) or read the one that was made from the answer's header of that name, and quote it when you ask about a call.</p>
<table>
<tr><th>400</th><td>The request breaks a rule; <code>validations</code> names the field and the rule. Nothing has changed.</td></tr>
<tr><th>401</th><td>There is no token, or it is not valid now.</td></tr>
<tr><th>403</th><td>Your roles do not allow this.</td></tr>
<tr><th>404</th><td>There is no such resource, or it is another company's.</td></tr>
<tr><th>405, 413, 415</th><td>The method, the size or the type of the request is wrong.</td></tr>
<tr><th>409</th><td>The key exists already, or the state of things forbids the change.</td></tr>
<tr><th>429, 503</th><td>Try again after the seconds in <code>Retry-After</code>.</td></tr>
</table>`;
}

function operationSection(verb: string, path: string, operation: Operation, document: OpenApi): Html {
  const body = operation.requestBody?.content["application/json"]?.schema;
  return html`<section id="${operation.operationId}">
<h3><b class="${verb}">${verb}</b> <code>${path}</code></h3>
<p>${operation.description}</p>
<p class="small">${operation.operationId}${operation.security === undefined ? "" : " · needs no token"}</p>
${operation.parameters === undefined ? html`` : parametersTable(operation.parameters)}
${body === undefined ? html`` : html`<h4>Request</h4>${schemaTable(body, document)}${exampleOf(body, document)}`}
<h4>Answers</h4>
${Object.entries(operation.responses).map(([status, response]) => answer(status, response, document))}
</section>`;
}

function parametersTable(parameters: readonly Parameter[]): Html {
  return html`<h4>Parameters</h4><table>
${parameters.map(
  ({ name, in: place, required, description, schema }) =>
    html`<tr><th><code>${name}</code></th><td>${place}${required === true ? ", required" : ""}</td><td>${typeOf(schema)}</td><td>${description}</td></tr>`,
)}</table>`;
}

function answer(
  status: string,
  { description, content = {} }: Operation["responses"][string],
  document: OpenApi,
): Html {
  const head = html`<b>${status}</b> ${description}`;
  const [media] = Object.entries(content);
  if (media === undefined) return html`<p>${head}</p>`;
  const [type, { schema }] = media;
  // Every operation has the same errors: they are told once, above.
  if (status === "default") return html`<p>${head} <a href="#errors">Errors</a></p>`;
  if (type !== "application/json") return html`<p>${head} <code>${type}</code></p>`;
  return html`<details${status === "404" ? html`` : html` open`}><summary>${head}</summary>${schemaTable(schema, document)}${exampleOf(schema, document)}</details>`;
}

function schemaTable(schema: Schema, document: OpenApi): Html {
  return html`<table>${rowsOf(resolve(schema, document), document, 0)}</table>`;
}

function rowsOf(schema: Schema, document: OpenApi, depth: number): Html[] {
  const required = (schema.required ?? []) as string[];
  return Object.entries((schema.properties ?? {}) as Record<string, Schema>).flatMap(([name, property]) => {
    const resolved = resolve(property, document);
    const inner = resolve((resolved.items ?? resolved) as Schema, document);
    const row = html`<tr><th class="depth${depth}"><code>${name}</code></th><td>${required.includes(name) ? "required" : ""}</td><td>${typeOf(resolved)}</td><td>${String(property.description ?? resolved.description ?? "")}</td></tr>`;
    return [row, ...rowsOf(inner, document, depth + 1)];
  });
}

function typeOf(schema: Schema): string {
  const type = [schema.type ?? "object"].flat().join(" or ");
  const range = [
    between(schema.minimum, schema.maximum, ""),
    between(schema.minLength, schema.maxLength, " characters"),
    between(schema.minItems, schema.maxItems, " items"),
  ];
  const names = Array.isArray(schema.enum) ? schema.enum.join(", ") : "";
  const fallback = schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`;
  const pattern = typeof schema.pattern === "string" ? schema.pattern : "";
  const format = typeof schema.format === "string" ? schema.format : "";
  return [type, format, ...range, pattern, names, fallback].filter((part) => part !== "").join("; ");
}

function between(least: unknown, most: unknown, unit: string): string {
  if (least === undefined && most === undefined) return "";
  return most === undefined ? `${String(least)} or more${unit}` : `${String(least ?? 0)} to ${String(most)}${unit}`;
}

function exampleOf(schema: Schema, document: OpenApi): Html {
  const { example } = resolve(schema, document);
  return example === undefined ? html`` : html`<pre>${JSON.stringify(example, undefined, 2)}</pre>`;
}

function resolve(schema: Schema, { components }: OpenApi): Schema {
  if (typeof schema.$ref !== "string") return schema;
  const name = schema.$ref.split("/").at(-1) ?? "";
  return { ...components.schemas[name], ...schema, $ref: undefined };
}

function serviceSection(service: DescService, describe: (desc: AnyDesc) => string): Html {
  return html`<section id="${service.name}"><h3><code>${service.typeName}</code></h3><p>${describe(service)}</p>
<table>${service.methods.map(
    (method) =>
      html`<tr><th><code>${method.name}</code></th><td><code>${streamOf(method, "client_streaming")}${method.input.name}</code> → <code>${streamOf(method, "server_streaming")}${method.output.name}</code></td><td>${callersOf(method)}</td><td>${describe(method)}</td></tr>`,
  )}</table>
<pre>buf curl --protocol grpc --http2-prior-knowledge -H 'Authorization: Bearer TOKEN' \\
  -d '{}' http://127.0.0.1:8080/${service.typeName}/${service.methods[0]?.name ?? ""}</pre></section>`;
}

function streamOf({ methodKind }: DescMethod, kind: "client_streaming" | "server_streaming"): string {
  return methodKind === kind || methodKind === "bidi_streaming" ? "stream " : "";
}

function callersOf(method: DescMethod): string {
  const { public: anybody, signedIn, roles } = getOption(method, access);
  if (anybody) return "anybody";
  return signedIn ? "anybody with a token" : roles.map((role) => Role_Name[role]).join(", ");
}
