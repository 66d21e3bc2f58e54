import type { AnyDesc, DescService } from "@bufbuild/protobuf";
import type { OpenApi } from "../gateway/openapi/document.ts";
export function createPage(_document: OpenApi, _services: readonly DescService[], _describe: (desc: AnyDesc) => string): string { return "<p>x</p>"; }
