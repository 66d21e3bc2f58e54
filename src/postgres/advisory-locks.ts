/** Keys of the service's PostgreSQL advisory locks, which share one key space in a database. Each key is used once. */
export const advisoryLocks = {
  /** Migrations run on one server at a time. */
  migrations: 7_043_001,
  firstAdministrator: 7_043_002,
  /** One process uses an embedded database. */
  embedded: 7_043_003,
  /** Changes of administrators run one after the other. */
  administrators: 7_043_004,
  partitions: 7_043_005,
  auditRollUp: 7_043_006,
  /** Held by every server: exclusive with counters in memory, shared with counters in Redis. */
  server: 7_043_030,
} as const;
