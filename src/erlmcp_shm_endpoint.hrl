%% A session of the endpoint, as its modules share it.

-define(MODERN, <<"2026-07-28">>).
%% Not 2025-03-26: it alone wants several messages in one JSON array accepted, and its clients speak another one too.
-define(LEGACY, [<<"2025-11-25">>, <<"2025-06-18">>, <<"2024-11-05">>]).

-define(META_VERSION, <<"io.modelcontextprotocol/protocolVersion">>).
-define(META_CAPABILITIES, <<"io.modelcontextprotocol/clientCapabilities">>).
-define(META_LOG_LEVEL, <<"io.modelcontextprotocol/logLevel">>).
-define(META_SERVER_INFO, <<"io.modelcontextprotocol/serverInfo">>).
-define(META_SUBSCRIPTION, <<"io.modelcontextprotocol/subscriptionId">>).

%% Calls of handlers, and URIs subscribed to, that one session may have at once.
-define(MAX_CALLS, 64).
-define(MAX_SUBSCRIPTIONS, 10000).

%% From the most talkative to the least.
-define(LEVELS, [
    <<"debug">>,
    <<"info">>,
    <<"notice">>,
    <<"warning">>,
    <<"error">>,
    <<"critical">>,
    <<"alert">>,
    <<"emergency">>
]).

%% A request that a handler works at.
-record(call, {
    id :: binary() | integer(),
    era :: modern | legacy,
    wrap :: fun((term()) -> {ok, map()} | {error, tuple()}),
    %% For whose answer the client's input may be needed: what it is bound to, and what the client can do.
    origin :: erlmcp_shm_asks:origin() | undefined,
    capabilities :: map(),
    %% What the client wants to hear meanwhile.
    token :: binary() | integer() | undefined,
    level :: binary() | undefined
}).

%% What a subscription is told of: lists, by how they looked last, and resources, by their last versions.
-record(watch, {
    lists = #{} :: #{resource | tool | prompt => non_neg_integer() | undefined},
    uris = #{} :: #{binary() => term()}
}).

-record(session, {
    handler :: erlmcp_shm_handler:handler() | undefined,
    page_size :: pos_integer(),
    tool_timeout :: timeout(),
    request_timeout :: timeout(),
    %% Only what names its protocol version is served.
    stateless :: boolean(),
    %% As negotiated by `initialize'.
    version :: binary() | undefined,
    level :: binary() | undefined,
    %% What the client can be asked, and what it has been and has not answered.
    capabilities = #{} :: map(),
    asked = #{} :: #{integer() => {erlmcp_shm_handler:call(), Key :: binary()}},
    calls = #{} :: #{erlmcp_shm_handler:call() => #call{}},
    changes :: erlmcp_shm_changes:subscription() | undefined,
    %% What the session itself is told of, and what each `subscriptions/listen' is.
    watch = #watch{} :: #watch{},
    listens = #{} :: #{(binary() | integer()) => #watch{}}
}).
