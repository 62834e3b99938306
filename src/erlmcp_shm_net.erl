%% @private
%% A transport that listens: the process behind HTTP, WebSocket and SSE, which differ in their handlers only.
%%
%% It knows who is connected. Each peer has a count of what was sent to it and not yet written; one that has too much
%% of that is dropped: it is told to close, and killed if it does not get to hear it. So memory is bounded by what one
%% peer may have times how many there may be, and a slow one holds up nobody else.
-module(erlmcp_shm_net).

-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

%% The transports.
-export([start_link/4, close/1, get_info/2, probe/2]).
%% Their handlers.
-export([join/2, has_room/1, find/2, taken/2, is_dropped/1, within_rate/2]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([queue/0]).

-opaque queue() :: atomics:atomics_ref().
%% Bytes and messages on their way, and whether the peer was dropped.

-define(MAX_MESSAGES, 10000).
-define(DRAIN_MS, 5000).
%% How long a peer that was dropped may take to find out.
-define(GRACE_MS, 5000).

-record(peer, {
    %% A peer gets what is sent; a mere request does not, yet holds a place.
    queue :: queue() | none,
    id :: binary() | undefined,
    report :: map() | undefined
}).

-record(state, {
    type :: erlmcp_shm_transport:type(),
    config :: map(),
    address :: erlmcp_shm_listener:address(),
    listener :: reference(),
    peers = #{} :: #{pid() => #peer{}},
    sent = 0 :: non_neg_integer(),
    dropped = 0 :: non_neg_integer(),
    closing = [] :: [gen_server:from()]
}).

%%% For the transports

%% @doc Not linked until it listens: a port that is taken is an error to return and no reason to die.
-spec start_link(erlmcp_shm_transport:type(), Handler :: module(), map(), pid()) -> {ok, pid()} | {error, term()}.
start_link(Type, Handler, Config, Owner) ->
    case needed([cowboy | [ssl || maps:get(tls, Config, false) =/= false]]) of
        ok ->
            case gen_server:start(?MODULE, {Type, Handler, Config, Owner}, []) of
                {ok, Pid} ->
                    true = link(Pid),
                    {ok, Pid};
                {error, {shutdown, Reason}} ->
                    {error, Reason};
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

%% Starts them. Of one that is there, what it depends on may be missing.
needed([]) ->
    ok;
needed([Application | Others]) ->
    case application:ensure_all_started(Application) of
        {ok, _} -> needed(Others);
        {error, {Missing, {"no such file or directory", _}}} -> {error, {missing_application, Missing}};
        {error, _} = Error -> Error
    end.

-spec close(pid()) -> ok.
close(Pid) ->
    Monitor = monitor(process, Pid),
    ok = erlmcp_shm_transport:call(Pid, close, ok),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

-spec get_info(erlmcp_shm_transport:type(), pid()) -> erlmcp_shm_transport:info().
get_info(Type, Pid) ->
    erlmcp_shm_transport:call(Pid, get_info, #{type => Type, peers => 0, state => closed}).

%% @doc A request through the listener itself, on a connection of its own.
-spec probe(pid(), timeout()) -> {ok, float()} | {error, term()}.
probe(Pid, Timeout) ->
    case erlmcp_shm_transport:call(Pid, address, {error, closed}) of
        {error, _} = Error -> Error;
        {Address, Config} -> erlmcp_shm_probe:request(Address, Config, Timeout)
    end.

%%% For the handlers

%% @doc The calling process is connected now: as a `peer', which gets what is sent, if it likes under an id by which
%% others find it, or as a `request'. It gets `{erlmcp_shm_send, Data}', and `erlmcp_shm_close' when it is to end.
-spec join(pid(), peer | {peer, Id :: binary()} | request | {request, Id :: binary()}) -> {ok, queue() | none} | {error, full | closed}.
join(Transport, As) ->
    erlmcp_shm_transport:call(Transport, {join, As}, {error, closed}).

-spec has_room(pid()) -> boolean().
has_room(Transport) ->
    erlmcp_shm_transport:call(Transport, has_room, false).

-spec find(pid(), Id :: binary()) -> {ok, pid()} | error.
find(Transport, Id) ->
    erlmcp_shm_transport:call(Transport, {find, Id}, error).

%% @doc So much of what was sent is off the peer's hands.
-spec taken(queue(), binary()) -> ok.
taken(Queue, Data) ->
    atomics:sub(Queue, 1, byte_size(Data)),
    atomics:sub(Queue, 2, 1).

%% @doc Whether the peer is to close without writing what it still has.
-spec is_dropped(queue()) -> boolean().
is_dropped(Queue) ->
    atomics:get(Queue, 3) =/= 0.

%% @doc Whether one more message from there is within the limit.
-spec within_rate(cowboy_req:req() | inet:ip_address(), Route :: map()) -> boolean().
within_rate(#{peer := {Ip, _}}, Route) ->
    within_rate(Ip, Route);
within_rate(Ip, #{transport := Transport, config := Config}) ->
    erlmcp_shm_listener:count(Transport, Ip, erlmcp_shm_transport_config:option(rate_limit, Config)).

%%% The process

%% @private
-spec init({erlmcp_shm_transport:type(), module(), map(), pid()}) -> {ok, #state{}} | {stop, term()}.
init({Type, Handler, Config, Owner}) ->
    case erlmcp_shm_probe:address(Type, Config) of
        {ok, Wanted} ->
            case erlmcp_shm_listener:attach(Wanted, #{handler => Handler, config => Config, owner => Owner}) of
                {ok, Address} ->
                    Listener = monitor(process, erlmcp_shm_listener),
                    {ok, #state{type = Type, config = Config, address = Address, listener = Listener}};
                {error, Reason} ->
                    {stop, {shutdown, Reason}}
            end;
        {error, Reason} ->
            {stop, {shutdown, Reason}}
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}} | {noreply, #state{}} | {stop, normal, ok, #state{}}.
handle_call({send, _}, _, #state{closing = [_ | _]} = State) ->
    {reply, {error, closed}, State};
handle_call({send, Data}, _, State) ->
    sent(Data, State);
handle_call({join, _}, _, #state{closing = [_ | _]} = State) ->
    {reply, {error, closed}, State};
handle_call({join, As}, {Pid, _}, #state{peers = Peers} = State) ->
    case room(State) of
        true ->
            _ = monitor(process, Pid),
            Peer = joined(As),
            {reply, {ok, Peer#peer.queue}, State#state{peers = Peers#{Pid => Peer}}};
        false ->
            {reply, {error, full}, State}
    end;
handle_call(has_room, _, State) ->
    {reply, State#state.closing =:= [] andalso room(State), State};
handle_call({find, Id}, _, #state{peers = Peers} = State) ->
    case [Pid || {Pid, #peer{id = Known}} <- maps:to_list(Peers), Known =:= Id] of
        [Pid | _] -> {reply, {ok, Pid}, State};
        [] -> {reply, error, State}
    end;
handle_call(address, _, #state{address = Address, config = Config} = State) ->
    {reply, {Address, Config}, State};
handle_call(get_info, _, #state{peers = Peers, address = Address} = State) ->
    All = maps:values(Peers),
    Queues = [Queue || #peer{queue = Queue} <- All, Queue =/= none],
    Info = maps:merge(maps:with([ip, port, path], Address), #{
        type => State#state.type,
        peers => length(Queues),
        connections => map_size(Peers),
        queued_bytes => lists:sum([atomics:get(Queue, 1) || Queue <- Queues]),
        sent => State#state.sent,
        dropped => State#state.dropped,
        client_metrics => [Report || #peer{report = #{} = Report} <- All]
    }),
    {reply, Info, State};
handle_call(close, _, #state{peers = Peers} = State) when map_size(Peers) =:= 0 ->
    ok = erlmcp_shm_listener:detach(self()),
    {stop, normal, ok, State};
handle_call(close, From, #state{peers = Peers, closing = Closing} = State) ->
    ok = erlmcp_shm_listener:detach(self()),
    _ = [Pid ! erlmcp_shm_close || Pid <- maps:keys(Peers)],
    _ = erlang:send_after(?DRAIN_MS, self(), drained),
    {noreply, State#state{closing = [From | Closing]}};
handle_call(_, _, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'DOWN', Listener, process, _, Reason}, #state{listener = Listener} = State) ->
    {stop, {listener, Reason}, State};
handle_info({'DOWN', _, process, Pid, _}, #state{peers = Peers} = State) ->
    ended(State#state{peers = maps:remove(Pid, Peers)});
handle_info({erlmcp_shm_report, Pid, Report}, #state{peers = Peers} = State) ->
    case Peers of
        #{Pid := Peer} -> {noreply, State#state{peers = Peers#{Pid => Peer#peer{report = Report}}}};
        _ -> {noreply, State}
    end;
handle_info({kill, Pid}, State) ->
    exit(Pid, kill),
    {noreply, State};
handle_info(drained, #state{peers = Peers} = State) ->
    _ = [exit(Pid, kill) || Pid <- maps:keys(Peers)],
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

ended(#state{peers = Peers, closing = [_ | _] = Closing} = State) when map_size(Peers) =:= 0 ->
    _ = [gen_server:reply(From, ok) || From <- Closing],
    {stop, normal, State};
ended(State) ->
    {noreply, State}.

room(#state{config = Config, peers = Peers}) ->
    map_size(Peers) < erlmcp_shm_transport_config:option(max_connections, Config).

joined(request) -> #peer{queue = none};
joined({request, Id}) -> #peer{queue = none, id = Id};
joined(peer) -> #peer{queue = atomics:new(3, [])};
joined({peer, Id}) -> #peer{queue = atomics:new(3, []), id = Id}.

%% To everybody who has room for it; who has none is dropped, and then is no peer any more.
sent(Data, #state{peers = Peers, sent = Sent} = State) ->
    Size = byte_size(Data),
    Offered = [{Pid, offer(Queue, Size, State)} || {Pid, #peer{queue = Queue}} <- maps:to_list(Peers), Queue =/= none],
    Takers = [Pid || {Pid, true} <- Offered],
    Dropped = [Pid || {Pid, false} <- Offered],
    _ = [Pid ! {erlmcp_shm_send, Data} || Pid <- Takers],
    New = lists:foldl(fun drop/2, State, Dropped),
    case Takers of
        [] -> {reply, {error, no_peer}, New};
        _ -> {reply, ok, New#state{sent = Sent + 1}}
    end.

%% A message that is larger than all there may be is taken by one who has nothing else.
offer(Queue, Size, #state{config = Config}) ->
    Bytes = atomics:add_get(Queue, 1, Size),
    Messages = atomics:add_get(Queue, 2, 1),
    Messages =:= 1 orelse
        (Bytes =< erlmcp_shm_transport_config:option(max_queue_bytes, Config) andalso Messages =< ?MAX_MESSAGES).

drop(Pid, #state{type = Type, peers = Peers, dropped = Dropped} = State) ->
    #{Pid := #peer{queue = Queue} = Peer} = Peers,
    ?LOG_NOTICE(#{what => slow_client, transport => Type, queued_bytes => atomics:get(Queue, 1)}),
    ok = atomics:put(Queue, 3, 1),
    Pid ! erlmcp_shm_close,
    _ = erlang:send_after(?GRACE_MS, self(), {kill, Pid}),
    State#state{peers = Peers#{Pid => Peer#peer{queue = none}}, dropped = Dropped + 1}.
