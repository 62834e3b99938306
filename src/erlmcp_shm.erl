%% @doc Starts and stops the application: `erl -config config/claude_flow -s erlmcp_shm'.
-module(erlmcp_shm).

-export([start/0, stop/0]).

%% @doc Starts the application and what it needs.
-spec start() -> {ok, [atom()]} | {error, term()}.
start() ->
    application:ensure_all_started(?MODULE).

%% @doc Stops the application. Whatever writer this node held is closed and its lock released;
%% the file stays, for readers and for the next start.
-spec stop() -> ok | {error, term()}.
stop() ->
    application:stop(?MODULE).
