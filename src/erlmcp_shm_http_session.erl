%% @private
%% A session over Streamable HTTP, until 2025-11-25: it outlives the requests that make it up. Each POST is a process
%% that waits for what belongs to its request; what belongs to none goes to the one that answers the session's GET, if there is.
%%
%% It ends when the client deletes it, when its transport does, or when nobody has used it for a while.
-module(erlmcp_shm_http_session).

-behaviour(gen_server).

-export([start/3, post/3, attach/1, stop/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    transport :: pid(),
    owner :: pid(),
    idle_ms :: pos_integer(),
    endpoint :: erlmcp_shm_endpoint:session(),
    %% Who waits for the answer to a request.
    posts = #{} :: #{(binary() | integer()) => pid()},
    %% Who answers the GET, and whether it has not yet written what it was given.
    stream :: pid() | undefined,
    busy = false :: boolean(),
    %% Whether there were changes that nobody could be told.
    changed = false :: boolean(),
    %% Only calls that are being worked at are waited for.
    closing = false :: boolean()
}).

%% @doc Under an id that nobody can guess.
-spec start(pid(), pid(), map()) -> {ok, pid(), Id :: binary()} | {error, full | closed}.
start(Transport, Owner, Config) ->
    Id = base64:encode(crypto:strong_rand_bytes(24)),
    case gen_server:start(?MODULE, {Transport, Owner, Config, Id}, []) of
        {ok, Pid} -> {ok, Pid, Id};
        {error, {shutdown, Reason}} -> {error, Reason}
    end.

%% @doc A message. What it comes to is told now, or later as `{erlmcp_shm_events, [event()]}'.
-spec post(pid(), Id :: binary() | integer() | undefined, binary()) -> {ok, [erlmcp_shm_endpoint:event()]} | {error, closed}.
post(Pid, Id, Text) ->
    call(Pid, {post, Id, Text}).

%% @doc The caller answers the session's GET: it gets `{erlmcp_shm_notify, Session, [Json]}', and says
%% `{noted, Session}' when it has written that.
-spec attach(pid()) -> ok | {error, taken | closed}.
attach(Pid) ->
    call(Pid, attach).

-spec stop(pid()) -> ok.
stop(Pid) ->
    _ = call(Pid, stop),
    ok.

call(Pid, Request) ->
    try
        gen_server:call(Pid, Request, infinity)
    catch
        exit:_ -> {error, closed}
    end.

%% @private
-spec init({pid(), pid(), map(), binary()}) -> {ok, #state{}, timeout()} | {stop, {shutdown, full | closed}}.
init({Transport, Owner, Config, Id}) ->
    case erlmcp_shm_net:join(Transport, {request, Id}) of
        {ok, none} ->
            _ = monitor(process, Transport),
            Idle = erlmcp_shm_transport_config:option(session_timeout, Config),
            {ok, #state{transport = Transport, owner = Owner, idle_ms = Idle, endpoint = erlmcp_shm_endpoint:new(Config)}, Idle};
        {error, Reason} ->
            {stop, {shutdown, Reason}}
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}, timeout()} | {stop, normal, term(), #state{}}.
handle_call({post, Id, Text}, {Post, _}, #state{endpoint = Endpoint, posts = Posts} = State) ->
    {Events, New} = erlmcp_shm_endpoint:handle(Text, Endpoint),
    Waiting =
        case is_answered(Id, Events) of
            true -> Posts;
            false -> Posts#{Id => Post}
        end,
    {Own, Done} = routed(Events, Id, State#state{endpoint = New, posts = Waiting}),
    reply({ok, Own}, Done);
handle_call(attach, {Pid, _}, #state{stream = undefined} = State) ->
    _ = monitor(process, Pid),
    reply(ok, collected(State#state{stream = Pid, busy = false}));
handle_call(attach, _, State) ->
    reply({error, taken}, State);
handle_call(stop, _, #state{endpoint = Endpoint, stream = Stream, posts = Posts} = State) ->
    {_, Closed} = erlmcp_shm_endpoint:close(Endpoint),
    _ = [Pid ! erlmcp_shm_close || Pid <- [Stream | maps:values(Posts)], Pid =/= undefined],
    {stop, normal, ok, State#state{endpoint = Closed}}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()} | {stop, normal, #state{}}.
handle_cast(_, State) ->
    noreply(State).

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}, timeout()} | {stop, normal, #state{}}.
handle_info(timeout, State) ->
    {stop, normal, State};
handle_info(erlmcp_shm_close, State) ->
    noreply(State#state{closing = true});
handle_info({'DOWN', _, process, Transport, _}, #state{transport = Transport} = State) ->
    {stop, normal, State};
handle_info({'DOWN', _, process, Stream, _}, #state{stream = Stream} = State) ->
    noreply(State#state{stream = undefined, busy = false});
handle_info({noted, Session}, State) when Session =:= self() ->
    noreply(collected(State#state{busy = false}));
handle_info(erlmcp_shm_changed, State) ->
    noreply(collected(State#state{changed = true}));
handle_info(Message, #state{endpoint = Endpoint} = State) ->
    case erlmcp_shm_endpoint:info(Message, Endpoint) of
        {Events, New} ->
            {_, Done} = routed(Events, none, State#state{endpoint = New}),
            noreply(Done);
        unknown ->
            noreply(State)
    end.

%% Changes are looked at when there is somebody to tell, who has time for it.
collected(#state{changed = true, stream = Stream, busy = false, endpoint = Endpoint} = State) when is_pid(Stream) ->
    {Events, New} = erlmcp_shm_endpoint:collect(Endpoint),
    Told = [Json || {notify, Json} <- Events],
    _ = Told =/= [] andalso (Stream ! {erlmcp_shm_notify, self(), Told}),
    State#state{endpoint = New, changed = false, busy = Told =/= []};
collected(State) ->
    State.

is_answered(undefined, _) -> true;
is_answered(Id, Events) -> lists:any(fun(Event) -> is_end(Id, Event) end, Events).

is_end(Id, {reply, Id, _, _}) -> true;
is_end(_, {reply, undefined, _, _}) -> true;
is_end(Id, {cancelled, Id}) -> true;
is_end(_, _) -> false.

%% Events that belong to the request which is being posted are returned, others go to whoever waits for them.
routed(Events, Mine, State) ->
    lists:foldl(fun(Event, Acc) -> route(Event, Mine, Acc) end, {[], State}, Events).

route({owner, Json}, _, {Own, #state{owner = Owner, transport = Transport} = State}) ->
    Owner ! {transport_message, Transport, Json},
    {Own, State};
route({report, Report}, _, {Own, #state{transport = Transport} = State}) ->
    ok = erlmcp_shm_metrics:client_report(self(), Report),
    Transport ! {erlmcp_shm_report, self(), Report},
    {Own, State};
route({notify, _}, _, Acc) ->
    Acc;
route(Event, Mine, {Own, #state{posts = Posts} = State}) when element(2, Event) =:= Mine; element(2, Event) =:= undefined ->
    {Own ++ [Event], State#state{posts = ended(Event, Posts)}};
route(Event, _, {Own, #state{posts = Posts} = State}) ->
    Id = element(2, Event),
    _ = is_map_key(Id, Posts) andalso (map_get(Id, Posts) ! {erlmcp_shm_events, [Event]}),
    {Own, State#state{posts = ended(Event, Posts)}}.

ended({about, _, _}, Posts) -> Posts;
ended(Event, Posts) -> maps:remove(element(2, Event), Posts).

reply(Reply, State) ->
    {reply, Reply, State, timeout(State)}.

noreply(#state{closing = Closing, endpoint = Endpoint} = State) ->
    case Closing andalso erlmcp_shm_endpoint:pending(Endpoint) =:= 0 of
        true -> {stop, normal, State};
        false -> {noreply, State, timeout(State)}
    end.

timeout(#state{stream = undefined, idle_ms = Idle}) -> Idle;
timeout(_) -> infinity.
