import type { AnyDesc, DescMethod, DescService } from "@bufbuild/protobuf";
import { snakeCase } from "../gateway/fields.ts";
import type { OpenApi, Operation } from "../gateway/openapi/document.ts";
import { createSchemas, type Schemas } from "../gateway/openapi/schema.ts";
import { reasons } from "../shared/reasons.ts";
import { type Html, html, prose } from "./html.ts";
import { operationReasons } from "./operation-reasons.ts";
import { authorization, type Components, isFile, quoteJson, sampleOf, samplesOf } from "./sample.ts";
import { script } from "./script.ts";
import { style } from "./style.ts";
import { parametersTable, schemaTable } from "./tables.ts";

export interface PageOptions {
  readonly document: OpenApi;
  readonly services: readonly DescService[];
  /** Returns the comment above a declaration in the .proto file. */
  readonly describe: (desc: AnyDesc) => string;
  /** Returns the callers that may call the RPC, as text. */
  readonly callersOf: (method: DescMethod) => string;
}

/** Creates the reference page. It loads no other file, and is readable without its script. */
export function createPage(options: PageOptions): string {
  const { document, services } = options;
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
<body data-url="${urlOf(document.servers)}">
<nav>
<h1>${document.info.title}</h1>
<input id="search" type="search" placeholder="Search operations, fields, reasons" aria-label="Search">
<fieldset class="languages"><legend>Samples in</legend>
${languages.map(([id, name], index) => html`<label><input type="radio" name="language" id="in-${id}"${index === 0 ? html` checked` : html``}> ${name}</label>`)}
</fieldset>
<details id="menu" open><summary>Contents</summary>
<a href="#start">Start</a>
<a href="#errors">Errors</a>
<a href="#reasons">Reasons of errors</a>
${document.tags.map(
  ({ name }) => html`<h2 class="tag">${name}</h2>
${ofTag(name).map(({ verb, operation }) => html`<a href="#${operation.operationId}"><b class="${verb}">${verb}</b> ${titleOf(operation)}</a>`)}`,
)}
<h2>gRPC</h2>
${services.map(({ name }) => html`<a href="#${name}">${name}</a>`)}
</details>
</nav>
<main>
${introduction(document)}
${document.tags.map(
  ({ name, description }) => html`<h2 class="tag">${name}</h2><p>${prose(description)}</p>
${ofTag(name).map(({ verb, path, operation }) => operationSection(verb, path, operation, options))}`,
)}
<h2>gRPC, gRPC-Web and Connect</h2>
<p>These are the same operations on the same port. The server supports reflection, so <code>buf curl</code> needs no schema. A
list is a stream of pages, which the client merges.</p>
${servicesSections(options)}
</main>
<script>${{ html: script }}</script>
</body>
</html>`.html;
}

function introduction({ info, servers, components }: OpenApi): Html {
  const url = urlOf(servers);
  return html`<h2 id="start">Start</h2>
<p>${info.description}</p>
<p>Create a token with your name and password. Every sample reads it from the environment variable <code>TOKEN</code>; samples
for a lease read its id from <code>LEASE_ID</code>. Run TypeScript with <code>npx tsx</code>; Python needs no package.</p>
<pre class="run">export TOKEN=$(curl -s -X POST ${url}/admin/token/generation -H 'Content-Type: application/json' \\
  -d '{"username":"admin","password":"YOUR_PASSWORD"}' | cut -d '"' -f 4)</pre>
<pre class="run">curl ${url}/admin/users ${authorization}</pre>
<h2 id="errors">Errors</h2>
<p>Every error has a <code>message</code> for people, a <code>reason</code> for programs, the invalid fields in <code>validations</code>, and
<code>tracedata</code>. <code>tracedata.code</code> is the tracecode of the call. Send your own in the header <code>tracecode</code> (a
UUID), or read the generated one from that header of the answer. Give it to the operator with a question about a call.</p>
<table>
<tr><th>400</th><td>The request breaks a rule; <code>validations</code> names the field and the rule. The call has changed no data.</td></tr>
<tr><th>401</th><td>The token is missing or not valid.</td></tr>
<tr><th>403</th><td>Your roles do not allow this.</td></tr>
<tr><th>404</th><td>The resource does not exist, or belongs to another company: <code>resource_id</code> names it, and <code>message</code> and <code>tracedata</code> are in <code>detail</code>. For an unknown path they are at the top, as in other errors.</td></tr>
<tr><th>405, 413, 415</th><td>The method, the size or the type of the request is wrong.</td></tr>
<tr><th>409</th><td>The key exists already, or the state of the resource does not allow the change.</td></tr>
<tr><th>429, 503</th><td>Try again after the seconds in <code>Retry-After</code>.</td></tr>
</table>
<details open><summary>The body of an error</summary>${schemaTable({ $ref: "#/components/schemas/error" }, components.schemas, "whole")}</details>
<h3 id="reasons">Reasons</h3>
<p>gRPC, gRPC-Web and Connect answers have the reason in <code>google.rpc.ErrorInfo</code>. The same list as
Markdown: <a href="errors.md">errors.md</a>.</p>
<table>
<tr><th>Reason</th><th>Status</th><th>Retry</th><th>Cause and cure</th></tr>
${Object.entries(reasons).map(
  ([name, { status, retry, cause, cure }]) =>
    html`<tr id="${name}"><th>${name}</th><td>${String(status)}</td><td>${retry ? "yes" : "no"}</td><td>${cause} ${cure}</td></tr>`,
)}
</table>`;
}

function operationSection(verb: string, path: string, operation: Operation, options: PageOptions): Html {
  const { servers, components } = options.document;
  const { operationId, parameters, requestBody } = operation;
  const body = requestBody?.content["application/json"]?.schema;
  const method = options.services
    .flatMap(({ methods }) => methods)
    .find(({ name }) => snakeCase(name) === rpcOf(operationId));
  const samples = samplesOf(urlOf(servers), verb, path, operation, components.schemas);
  return html`<section id="${operationId}">
<h3>${titleOf(operation)}</h3>
<p class="path"><b class="${verb}">${verb}</b> <code>${path}</code></p>
<p>${prose(operation.description)}</p>
<p class="small">${operationId}${operation.deprecated === true ? " · deprecated" : ""}${method === undefined ? "" : ` · ${options.callersOf(method)}`}</p>
${parameters === undefined ? html`` : html`<h4>Parameters</h4>${parametersTable(parameters, components.schemas)}`}
${body === undefined ? html`` : html`<h4>Request</h4>${schemaTable(body, components.schemas, "required")}`}
<h4>Call</h4>
${languages.map(([id]) => html`<pre class="run sample ${id}">${samples[id]}</pre>`)}
<h4>Answers</h4>
${Object.entries(operation.responses).map(([status, response]) => answer(status, response, components.schemas))}
${errorsOf(operationId)}
</section>`;
}

/** Lists the reasons that only this operation has, each linked to its cause and cure. */
function errorsOf(operationId: string): Html {
  const own = operationReasons[rpcOf(operationId)] ?? [];
  return html`<h4>Errors</h4>
<p>${own.map((reason) => html`<a class="reason" href="#${reason}">${String(reasons[reason].status)} ${reason}</a> `)}<a href="#errors">${own.length === 0 ? "" : "and "}those of every operation</a></p>`;
}

/** Returns the name of the RPC in snake_case. An additional binding below /account has it after a prefix. */
function rpcOf(operationId: string): string {
  return operationId.replace(/^account_/, "");
}

/** The first sentence of the description names the operation. */
function titleOf({ description }: Operation): string {
  const [sentence = ""] = description.split(/(?<=[^.][.:;])\s/, 1);
  return sentence.replace(/[.:;]$/, "");
}

const languages = [
  ["curl", "curl"],
  ["typescript", "TypeScript"],
  ["python", "Python"],
] as const;

function answer(
  status: string,
  { description, content = {} }: Operation["responses"][string],
  components: Components,
): Html {
  const head = html`<b>${status}</b> ${description}`;
  const json = content["application/json"];
  // Every error has one form, which the page shows once.
  if (!status.startsWith("2")) return html`<p>${head}</p>`;
  if (json === undefined || isFile(content)) {
    return html`<p>${head} <code>${Object.keys(content).join(", ")}</code></p>`;
  }
  return html`<details open><summary>${head}</summary>${schemaTable(json.schema, components, "whole")}</details>`;
}

function servicesSections(options: PageOptions): Html[] {
  const schemas = createSchemas(options.describe, () => true);
  return options.services.map(
    (service) =>
      html`<section id="${service.name}"><h3><code>${service.typeName}</code></h3><p>${prose(options.describe(service))}</p>
${service.methods.map((method) => rpc(method, schemas, options))}
</section>`,
  );
}

function rpc(method: DescMethod, schemas: Schemas, { document, describe, callersOf }: PageOptions): Html {
  const request = schemas.reference(method.input, "request");
  const response = schemas.reference(method.output, "response");
  const operation = Object.values(document.paths)
    .flatMap((item) => Object.values(item))
    .find(({ operationId }) => operationId === snakeCase(method.name));
  return html`<details><summary><code>${method.name}</code> <code class="small">${streamOf(method, "client_streaming")}${method.input.name} → ${streamOf(method, "server_streaming")}${method.output.name}</code></summary>
<p>${prose(describe(method))}</p>
<p class="small">${callersOf(method)}${operation === undefined ? html`` : html` · over HTTP: <a href="#${operation.operationId}">${operation.operationId}</a>`}</p>
<pre class="run">${bufCurlOf(method, sampleOf(request, schemas.components, "required"), document, operation)}</pre>
${
  operation === undefined
    ? html`<h4>${method.input.name}</h4>${schemaTable(request, schemas.components, "required")}
<h4>${method.output.name}</h4>${schemaTable(response, schemas.components, "whole")}`
    : html``
}
</details>`;
}

function bufCurlOf(
  method: DescMethod,
  request: unknown,
  { servers }: OpenApi,
  operation: Operation | undefined,
): string {
  return [
    "buf curl --protocol grpc --http2-prior-knowledge",
    ...(operation?.security === undefined ? [authorization] : []),
    `-d ${quoteJson(request)}`,
    `${urlOf(servers)}/${method.parent.typeName}/${method.name}`,
  ].join(" \\\n  ");
}

function streamOf({ methodKind }: DescMethod, kind: "client_streaming" | "server_streaming"): string {
  return methodKind === kind || methodKind === "bidi_streaming" ? "stream " : "";
}

function urlOf(servers: OpenApi["servers"]): string {
  return servers.find(({ url }) => url.startsWith("http"))?.url ?? "";
}
