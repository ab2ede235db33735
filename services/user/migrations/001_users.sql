create table users.person (
    user_id    uuid primary key,
    kind       text not null check (kind in ('AGENT', 'CUSTOMER')),
    name       text not null,
    created_at timestamptz not null default clock_timestamp()
);

-- An account of null means that the address is the same person for every account of ours.
create table users.identity (
    identity_id uuid primary key,
    user_id     uuid not null references users.person,
    channel     text not null,
    account     text,
    address     text not null,
    name        text,
    created_at  timestamptz not null default clock_timestamp()
);
create unique index identity_address on users.identity (channel, coalesce(account, ''), address);
create index identity_user on users.identity (user_id);

create table users.api_key (
    key_id     uuid primary key,
    name       text not null,
    sha256     text not null unique,
    scopes     text[] not null,
    created_at timestamptz not null default clock_timestamp(),
    revoked_at timestamptz
);

-- Who did what to whom; written in the transaction of what it tells.
create table users.audit (
    audit_id uuid primary key,
    at       timestamptz not null default clock_timestamp(),
    actor    text not null,
    action   text not null,
    subject  uuid not null,
    detail   jsonb not null
);
