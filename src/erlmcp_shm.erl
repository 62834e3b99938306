%% @doc Starts and stops the application: `erl -config config/claude_flow -s erlmcp_shm'; as the server of one client,
%% `erl -noshell -config config/claude_flow -s erlmcp_shm stdio'.
-module(erlmcp_shm).

-include_lib("kernel/include/logger.hrl").

-export([start/0, stop/0, stdio/0]).

%% @doc Starts the application and what it needs. For `-s erlmcp_shm' there is nobody to deal with an error: it is logged, and
%% the node ends with the exit code 1.
-spec start() -> {ok, [atom()]} | {error, term()}.
start() ->
    case {application:ensure_all_started(?MODULE), is_called_by_init()} of
        {{error, Reason}, true} ->
            ?LOG_ERROR(#{what => start, reason => Reason}),
            give_up();
        {Result, _} ->
            Result
    end.

%% An escript, or an -eval, runs in the same process, but can look at what it gets.
is_called_by_init() ->
    {current_stacktrace, Stack} = process_info(self(), current_stacktrace),
    [Caller | _] = lists:dropwhile(fun({Module, _, _, _}) -> Module =:= ?MODULE orelse Module =:= erlang end, Stack),
    element(1, Caller) =:= init.

%% @doc Stops the application. Whatever writer this node held is closed and its lock released;
%% the file stays, for readers and for the next start.
-spec stop() -> ok | {error, term()}.
stop() ->
    application:stop(?MODULE).

%% @doc Serves one client over standard input and output, and ends the node once that has closed the input. Nothing but
%% messages goes to standard output: the log goes to standard error.
%%
%% It may run beside the node of the same configuration. What is published it reads from the file, for as long as nothing is
%% exported here, and it listens nowhere. (An application that was started before goes on as it is.)
-spec stdio() -> ok.
stdio() ->
    ok = log_to_standard_error(),
    _ = spawn(fun serve/0),
    ok.

-spec serve() -> no_return().
serve() ->
    _ = process_flag(trap_exit, true),
    ok = application:set_env(erlmcp_shm, role, stdio),
    case application:ensure_all_started(?MODULE) of
        {ok, _} -> serve(erlmcp_shm_transport_stdio:start_link(configured(), self()));
        {error, _} = Error -> serve(Error)
    end.

%% The gateway may have started it, if it is one of the transports that it was given.
-spec serve({ok, pid()} | {error, term()}) -> no_return().
serve({error, {already_started, Transport}}) ->
    serve({ok, Transport});
serve({ok, Transport}) ->
    until_end(monitor(process, Transport)),
    _ = stop(),
    halt(0);
serve({error, Reason}) ->
    ?LOG_ERROR(#{what => stdio, reason => Reason}),
    give_up().

-spec give_up() -> no_return().
give_up() ->
    _ = logger_std_h:filesync(default),
    halt(1).

configured() ->
    case erlmcp_shm_config:load() of
        {ok, #{transports := [_ | _] = Transports}} ->
            case [Config || #{type := stdio, config := #{} = Config} <- Transports] of
                [Config | _] -> Config;
                [] -> #{}
            end;
        _ ->
            #{}
    end.

%% What the client tells an owner of the transport has nobody to hear it here.
until_end(Monitor) ->
    receive
        {'DOWN', Monitor, process, _, _} -> ok;
        _ -> until_end(Monitor)
    end.

%% Which is the client's, who wants to hear of what is wrong and of nothing else, unless a level was configured.
log_to_standard_error() ->
    case logger:get_handler_config(default) of
        {ok, #{level := Level} = Handler} ->
            ok = logger:remove_handler(default),
            logger:add_handler(default, logger_std_h, Handler#{
                config => #{type => standard_error},
                level := case Level of all -> warning; _ -> Level end
            });
        {error, _} ->
            ok
    end.
