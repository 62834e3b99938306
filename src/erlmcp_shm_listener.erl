%% @private
%% The node's HTTP listeners: one for each address, shared by all transports that are configured for it, each with a
%% path of its own.
%%
%% The process is started by the first transport, under erlmcp_shm_services. Should it crash, the transports end, and with
%% them the sessions, which thus get to know of it; the next process begins with nothing. A listener begins with its first transport and ends with its last;
%% transports that die are noticed. Requests find their transport in a table, without asking anybody.
-module(erlmcp_shm_listener).

-behaviour(gen_server).

-export([start_link/0, attach/2, detach/1, route/2, count/3]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([address/0]).

-type address() :: #{
    ip := inet:ip_address(), port := inet:port_number(), path := binary(), tls => [ssl:tls_server_option()]
}.

-define(ROUTES, ?MODULE).
-define(RATES, erlmcp_shm_rates).
-define(SWEEP_MS, 5000).

%% How long a write to a client may take before the connection is given up.
-define(SEND_TIMEOUT_MS, 5000).

%% How long connections may go on without their transport.
-define(DRAIN_MS, 5000).

-define(TRIES, 10).
-define(PAUSE_MS, 20).

-record(listener, {
    ref :: term(),
    ip :: inet:ip_address(),
    port :: inet:port_number(),
    tls :: list(),
    transports :: #{pid() => Route :: map()}
}).

%% @doc For its supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, _} = Ok -> Ok;
        {error, _} = Error -> Error
    end.

%% @doc The calling process serves requests for the path of that address from now on, by the handler in `Route'.
%% What comes back has the port that is listened on.
-spec attach(address(), Route :: map()) -> {ok, address()} | {error, term()}.
attach(Address, Route) ->
    attach(Address, Route, ?TRIES).

%% One that is being started anew just now is there again soon.
attach(Address, Route, Tries) ->
    ok = erlmcp_shm_services:ensure(?MODULE),
    try
        gen_server:call(?MODULE, {attach, Address, Route, self()}, infinity)
    catch
        exit:{noproc, _} when Tries > 1 ->
            timer:sleep(?PAUSE_MS),
            attach(Address, Route, Tries - 1)
    end.

%% @doc No more requests for that transport; connections there are go on until it ends.
-spec detach(pid()) -> ok.
detach(Transport) ->
    gen_server:call(?MODULE, {detach, Transport}, infinity).

%% @doc What serves a path.
-spec route(Listener :: term(), Path :: binary()) -> {ok, map()} | error.
route(Listener, Path) ->
    case ets:lookup(?ROUTES, {Listener, Path}) of
        [{_, Route}] -> {ok, Route};
        [] -> error
    end.

%% @doc Whether one more request of this second from that address is within the limit.
-spec count(Whose :: term(), inet:ip_address(), pos_integer() | infinity) -> boolean().
count(_, _, infinity) ->
    true;
count(Whose, Ip, Limit) ->
    Key = {Whose, Ip, erlang:monotonic_time(second)},
    ets:update_counter(?RATES, Key, {2, 1}, {Key, 0}) =< Limit.

%% @private
-spec init([]) -> {ok, [#listener{}]}.
init([]) ->
    _ = process_flag(trap_exit, true),
    ?ROUTES = ets:new(?ROUTES, [named_table, {read_concurrency, true}]),
    ?RATES = ets:new(?RATES, [named_table, public, {write_concurrency, true}]),
    _ = erlang:send_after(?SWEEP_MS, self(), sweep),
    %% Those of a process before this one, whose transports have all seen it die.
    ok = stop_listeners(),
    {ok, []}.

stop_listeners() ->
    lists:foreach(fun cowboy:stop_listener/1, [Ref || {?MODULE, _} = Ref <- maps:keys(ranch:info())]).

%% @private
-spec handle_call(term(), gen_server:from(), [#listener{}]) -> {reply, term(), [#listener{}]}.
handle_call({attach, Address, Route, Transport}, _, Listeners) ->
    case listener(Address, Listeners) of
        {ok, Listener, Others} ->
            case serve(Address, Route, Transport, Listener) of
                {ok, Port, New} -> {reply, {ok, Address#{port => Port}}, [New | Others]};
                {error, _} = Error -> {reply, Error, Listeners}
            end;
        {error, _} = Error ->
            {reply, Error, Listeners}
    end;
handle_call({detach, Transport}, _, Listeners) ->
    _ = [
        begin
            ok = unserve(Transport, Listener),
            map_size(Transports) > 1 orelse ranch:suspend_listener(Ref)
        end
     || #listener{ref = Ref, transports = #{Transport := _} = Transports} = Listener <- Listeners
    ],
    {reply, ok, Listeners};
handle_call(_, _, Listeners) ->
    {reply, {error, unknown_call}, Listeners}.

%% @private
-spec handle_cast(term(), [#listener{}]) -> {noreply, [#listener{}]}.
handle_cast(_, Listeners) ->
    {noreply, Listeners}.

%% @private
-spec handle_info(term(), [#listener{}]) -> {noreply, [#listener{}]}.
handle_info({'DOWN', _, process, Transport, _}, Listeners) ->
    {noreply, without(Transport, Listeners)};
handle_info({stop, Ref}, Listeners) ->
    _ = cowboy:stop_listener(Ref),
    {noreply, Listeners};
handle_info(sweep, Listeners) ->
    _ = erlang:send_after(?SWEEP_MS, self(), sweep),
    Old = erlang:monotonic_time(second) - 1,
    _ = ets:select_delete(?RATES, [{{{'_', '_', '$1'}, '_'}, [{'<', '$1', Old}], [true]}]),
    {noreply, Listeners};
handle_info(_, Listeners) ->
    {noreply, Listeners}.

%% @private
%% Those too whose transports have ended already. (Ranch itself may have.)
-spec terminate(term(), [#listener{}]) -> ok.
terminate(_Reason, _Listeners) ->
    try
        stop_listeners()
    catch
        _:_ -> ok
    end.

%% The listener of an address, running.
listener(#{ip := Ip, port := Port} = Address, Listeners) ->
    Tls = maps:get(tls, Address, []),
    case [L || #listener{ip = I, port = P} = L <- Listeners, I =:= Ip, P =:= Port, P =/= 0] of
        [#listener{tls = Tls} = Found] -> {ok, Found, lists:delete(Found, Listeners)};
        [#listener{}] -> {error, {address_in_use, Ip, Port, tls}};
        [] -> start(Ip, Port, Tls, Listeners)
    end.

start(Ip, Port, Tls, Listeners) ->
    Ref = {?MODULE, make_ref()},
    Socket = [
        {ip, Ip},
        {port, Port},
        {nodelay, true},
        {backlog, 1024},
        {send_timeout, ?SEND_TIMEOUT_MS},
        {send_timeout_close, true}
    ],
    Transport = #{socket_opts => Socket ++ Tls, num_acceptors => 10},
    Protocol = #{
        env => #{erlmcp_shm => Ref},
        middlewares => [erlmcp_shm_admission, cowboy_handler],
        %% Streams to a client last as long as it likes; how long it may take over a request is bounded.
        idle_timeout => infinity,
        inactivity_timeout => infinity,
        request_timeout => 30000,
        max_keepalive => 16#FFFFFFFF
    },
    Started =
        case {await_free(Ip, Port, ?TRIES), Tls} of
            {ok, []} -> cowboy:start_clear(Ref, Transport, Protocol);
            {ok, _} -> cowboy:start_tls(Ref, Transport, Protocol);
            {{error, _} = Taken, _} -> Taken
        end,
    case Started of
        {ok, _} ->
            {ok, #listener{ref = Ref, ip = Ip, port = ranch:get_port(Ref), tls = Tls, transports = #{}}, Listeners};
        {error, Reason} ->
            {error, {listen, Reason}}
    end.

%% A listener of ours that has just been stopped may hold its port a moment longer than its processes live.
await_free(Ip, Port, Tries) ->
    case gen_tcp:listen(Port, [{ip, Ip}, {reuseaddr, true}]) of
        {ok, Socket} ->
            gen_tcp:close(Socket);
        {error, eaddrinuse} when Tries > 1 ->
            timer:sleep(?PAUSE_MS),
            await_free(Ip, Port, Tries - 1);
        {error, _} = Error ->
            Error
    end.

serve(#{path := Path}, #{config := Config} = Route, Transport, #listener{ref = Ref, transports = Transports} = Listener) ->
    Own = Route#{transport => Transport, tokens => tokens(Config)},
    Metrics = metrics_path(Own),
    case ets:insert_new(?ROUTES, {{Ref, Path}, Own}) andalso (is_for_metrics(Ref, Metrics) orelse Metrics) of
        true ->
            %% Its last transport may just be about to end.
            ok = ranch:resume_listener(Ref),
            Port = ranch:get_port(Ref),
            _ = monitor(process, Transport),
            New = Listener#listener{port = Port, transports = Transports#{Transport => Own}},
            ok = serve_metrics(New),
            ok = set_max_connections(New),
            {ok, Port, New};
        false ->
            {error, {path_in_use, Listener#listener.port, Path}};
        Metrics ->
            true = ets:delete(?ROUTES, {Ref, Path}),
            {error, {path_in_use, Listener#listener.port, Metrics}}
    end.

tokens(#{auth_token := Token}) when Token =/= undefined -> [iolist_to_binary(Token)];
tokens(_) -> [].

metrics_path(#{config := Config}) ->
    case erlmcp_shm_transport_config:option(metrics_path, Config) of
        false -> false;
        Path -> unicode:characters_to_binary(Path)
    end.

is_for_metrics(_, false) ->
    true;
is_for_metrics(Ref, Path) ->
    case ets:lookup(?ROUTES, {Ref, Path}) of
        [] -> true;
        [{_, #{handler := Handler}}] -> Handler =:= erlmcp_shm_metrics_http
    end.

%% The node's figures are the same through each of a listener's transports, so whom one of them lets in may see them: by
%% anyone's token, where any of them asks for one; from the pages that any of them talks to; as often as the most generous admits.
serve_metrics(#listener{ref = Ref, transports = Transports}) ->
    Routes = maps:values(Transports),
    Paths = lists:usort([Path || Route <- Routes, Path <- [metrics_path(Route)], Path =/= false]),
    Options = fun(Key) -> [erlmcp_shm_transport_config:option(Key, Config) || #{config := Config} <- Routes] end,
    Shared = #{
        handler => erlmcp_shm_metrics_http,
        transport => Ref,
        tokens => lists:append([Tokens || #{tokens := Tokens} <- Routes])
    },
    Served = [{Ref, Path} || Path <- Paths],
    true = ets:insert(?ROUTES, [
        {Key, Shared#{
            config => #{
                allowed_origins => erlmcp_shm_admission:either(Options(allowed_origins)),
                %% Atoms are greater than numbers.
                rate_limit => lists:max(Options(rate_limit))
            }
        }}
     || Key <- Served
    ]),
    Before = ets:select(?ROUTES, [{{{Ref, '$1'}, '$2'}, [{'=:=', {map_get, handler, '$2'}, erlmcp_shm_metrics_http}], ['$1']}]),
    lists:foreach(fun(Path) -> ets:delete(?ROUTES, {Ref, Path}) end, Before -- Paths).

%% Unless another has taken the path, after this one was detached.
unserve(Transport, #listener{ref = Ref, transports = Transports} = Listener) ->
    _ = ets:select_delete(?ROUTES, [{{{Ref, '_'}, '$1'}, [{'=:=', {map_get, transport, '$1'}, Transport}], [true]}]),
    serve_metrics(Listener#listener{transports = maps:remove(Transport, Transports)}).

%% Beyond what the transports admit, there has to be room to say so.
set_max_connections(#listener{ref = Ref, transports = Transports}) ->
    Max = fun(#{config := Config}) -> erlmcp_shm_transport_config:option(max_connections, Config) end,
    ranch:set_max_connections(Ref, 64 + lists:sum([Max(Route) || Route <- maps:values(Transports)])).

without(Transport, Listeners) ->
    lists:append([without_in(Transport, Listener) || Listener <- Listeners]).

without_in(Transport, #listener{ref = Ref, transports = Transports} = Listener) ->
    case maps:take(Transport, Transports) of
        {_, Rest} ->
            ok = unserve(Transport, Listener),
            case map_size(Rest) of
                0 ->
                    %% To stop it is to end its connections, and those still have something to write.
                    _ = ranch:suspend_listener(Ref),
                    _ = erlang:send_after(?DRAIN_MS, self(), {stop, Ref}),
                    [];
                _ ->
                    New = Listener#listener{transports = Rest},
                    ok = set_max_connections(New),
                    [New]
            end;
        error ->
            [Listener]
    end.
