-- Who may claim deliveries of a partition; each takeover raises the epoch.
create table ledger.partition_owner (
    channel   text not null,
    partition integer not null,
    epoch     bigint not null,
    owner     text not null,
    since     timestamptz not null default clock_timestamp(),
    primary key (channel, partition)
);

create sequence ledger.lane_position;

-- One row for each part of each delivery: a text that is too long for one message goes out in
-- parts. A lane is (channel, conversation, recipient); its order is `position`. States: pending,
-- sending (claimed), unknown, sent, failed. `proven` is the rank of the highest status that the
-- provider gave. `attempt_log` says when and why each attempt that counted failed.
create table ledger.delivery (
    message_id      uuid not null,
    recipient_id    uuid not null,
    channel         text not null,
    part            smallint not null,
    parts           smallint not null,
    conversation_id uuid not null,
    partition       integer not null,
    position        bigint not null default nextval('ledger.lane_position'),
    account         text not null,
    address         text not null,
    content         text not null,
    reply_to        uuid,
    at_least_once   boolean not null,
    traceparent     text,
    accepted_at     timestamptz not null,
    created_at      timestamptz not null default clock_timestamp(),
    state           text not null default 'pending'
                    check (state in ('pending', 'sending', 'unknown', 'sent', 'failed')),
    replay_no       integer not null default 0,
    attempts        integer not null default 0,
    attempt_log     jsonb not null default '[]',
    attempt_id      uuid,
    epoch           bigint,
    claimed_at      timestamptz,
    next_attempt_at timestamptz,
    provider_id     text,
    proven          smallint not null default 0,
    error_code      text,
    error_detail    text,
    settled_at      timestamptz,
    reported        boolean not null default true,
    primary key (message_id, recipient_id, channel, part)
);
create index lane on ledger.delivery (channel, partition, conversation_id, recipient_id, position)
    where state in ('pending', 'sending', 'unknown');
create index unreported on ledger.delivery (channel, partition) where not reported;
create index outcome_unknown on ledger.delivery (channel, partition) where state = 'unknown';
create index in_doubt on ledger.delivery (channel, account, address)
    where state in ('sending', 'unknown') or (state = 'pending' and at_least_once)
        or error_code = 'outcome_unknown';

-- What a provider calls a message, ours or a customer's. Whichever comes first, the answer to a
-- send or a webhook, makes the row: a status that is early waits in `parked`, and so does an echo
-- of a text, found by whom it went to and what it said.
create table ledger.provider_message (
    channel      text not null,
    account      text not null,
    provider_id  text not null,
    message_id   uuid,
    recipient_id uuid,
    part         smallint,
    replay_no    integer not null default 0,
    parked       jsonb not null default '[]',
    echo         text,
    created_at   timestamptz not null default clock_timestamp(),
    primary key (channel, account, provider_id)
);
create index provider_message_of on ledger.provider_message (message_id, channel);
create index unclaimed on ledger.provider_message (channel, created_at) where message_id is null;
