#!/usr/bin/env -S npx tsx
import { type AnyDesc, type DescMethod, type DescService, getOption } from "@bufbuild/protobuf";
import { createEcmaScriptPlugin, getComments, runNodeJs, type Schema } from "@bufbuild/protoplugin";
import { stringify } from "yaml";
import { tag } from "#gen/gateway/v1/annotations_pb.js";
import { access, Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { bindingsOf } from "../gateway/binding.ts";
import { createDocument } from "../gateway/openapi/document.ts";
import { createRouter } from "../gateway/router.ts";
import { isPublic } from "../pipeline/authorization.ts";
import { createPage } from "./page.ts";

/** The order of the services in the documentation, by tag. Other services follow. */
const readingOrder = ["auth", "companies", "users", "quotas", "alerts", "system"];

/** Generates the OpenAPI document and the reference page from the .proto files. */
runNodeJs(
  createEcmaScriptPlugin({
    name: "protoc-gen-tollgate",
    version: "v1",
    generateTs(schema) {
      const files = schema.files.filter(({ proto }) => proto.package === "tollgate.v1");
      const services = files.flatMap((file) => file.services).toSorted((one, other) => placeOf(one) - placeOf(other));
      // Colliding routes must fail here, and not at the start of the server.
      createRouter(services.flatMap((service) => bindingsOf(service)));
      const document = createDocument(services, {
        info: {
          title: "Tollgate",
          version: "1.0",
          description: "Companies, users, quotas, who did what, data and usage of a route-planning platform.",
          license: { name: "Apache-2.0", identifier: "Apache-2.0" },
          contact: { name: "Tollgate" },
        },
        servers: [
          { url: "/", description: "The server that this document comes from." },
          { url: "http://127.0.0.1:8080", description: "The server that npm start runs." },
        ],
        security: { name: "ApiKeyAuth", scheme: { type: "http", scheme: "bearer", bearerFormat: "JWT" } },
        isPublic,
        needsRole: (method) => !getOption(method, access).signedIn,
        error: messageOf(schema, "Error"),
        notFound: messageOf(schema, "NotFound"),
        describe,
      });
      write(schema, "openapi.yaml", stringify(document, yamlOptions));
      write(schema, "openapi.json", JSON.stringify(document));
      write(schema, "docs/admin_en.html", createPage({ document, services, describe, callersOf }));
    },
  }),
);

/** YAML 1.1 quotes dates: its readers parse an unquoted date as a time. */
const yamlOptions = { version: "1.1", lineWidth: 120, aliasDuplicateObjects: false } as const;

function placeOf(service: DescService): number {
  const place = readingOrder.indexOf(getOption(service, tag));
  return place === -1 ? readingOrder.length : place;
}

function describe(desc: AnyDesc): string {
  if (desc.kind === "file") return "";
  const lines = (getComments(desc).leading ?? "").split("\n").map((line) => line.trim());
  return lines.join(" ").trim();
}

function callersOf(method: DescMethod): string {
  const { public: isOpen, signedIn, roles } = getOption(method, access);
  if (isOpen) return "all callers, without a token";
  if (signedIn) return "all callers with a token";
  return roles.length === 0 ? "no caller" : roles.map((role) => Role_Name[role]).join(", ");
}

function messageOf(schema: Schema, name: string) {
  const message = schema.files
    .flatMap(({ messages }) => messages)
    .find(({ typeName }) => typeName === `tollgate.v1.${name}`);
  if (message === undefined) throw new Error(`there is no message tollgate.v1.${name}`);
  return message;
}

function write(schema: Schema, name: string, text: string): void {
  schema.generateFile(name).print(text.trimEnd());
}
