%% @doc WebSocket: a connection is a session, a text frame is a message; `permessage-deflate' where both sides have it.
-module(erlmcp_shm_transport_ws).

-behaviour(erlmcp_shm_transport).

-export([start_link/2, send/2, close/1, get_info/1, probe/2]).

-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2]).

%% A peer that is still there answers a ping.
-define(PING_MS, 50000).
-define(IDLE_MS, 150000).

-record(state, {
    route :: map(),
    ip :: inet:ip_address(),
    queue :: erlmcp_shm_net:queue() | undefined,
    session :: erlmcp_shm_session:session() | undefined,
    %% Only what is pending is waited for.
    closing = false :: boolean()
}).

-type result() :: {[cow_ws:frame()], #state{}}.

%%% The behaviour

-spec start_link(map(), pid()) -> {ok, pid()} | {error, term()}.
start_link(Config, Owner) ->
    erlmcp_shm_net:start_link(websocket, ?MODULE, Config, Owner).

-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    erlmcp_shm_transport:send(Pid, Data).

-spec close(pid()) -> ok.
close(Pid) ->
    erlmcp_shm_net:close(Pid).

-spec get_info(pid()) -> erlmcp_shm_transport:info().
get_info(Pid) ->
    erlmcp_shm_net:get_info(websocket, Pid).

-spec probe(pid(), timeout()) -> {ok, float()} | {error, term()}.
probe(Pid, Timeout) ->
    erlmcp_shm_net:probe(Pid, Timeout).

%%% A connection

%% @private
-spec init(cowboy_req:req(), map()) ->
    {ok, cowboy_req:req(), map()} | {erlmcp_shm_ws, cowboy_req:req(), #state{}, erlmcp_shm_ws:options()}.
init(Req, #{transport := Transport, config := Config} = Route) ->
    case erlmcp_shm_net:has_room(Transport) of
        true ->
            {Ip, _} = cowboy_req:peer(Req),
            Options = #{
                compress => maps:get(compression, Config, none) =:= permessage_deflate,
                idle_timeout => ?IDLE_MS,
                max_message_bytes => erlmcp_shm_transport_config:option(max_message_bytes, Config)
            },
            {erlmcp_shm_ws, with_protocol(Req), #state{route = Route, ip = Ip}, Options};
        false ->
            {ok, erlmcp_shm_admission:refuse(503, -32603, <<"Too many connections">>, Req), Route}
    end.

%% Clients that name a subprotocol want it confirmed.
with_protocol(Req) ->
    case cowboy_req:parse_header(<<"sec-websocket-protocol">>, Req) of
        Protocols when is_list(Protocols) ->
            case lists:member(<<"mcp">>, Protocols) of
                true -> cowboy_req:set_resp_header(<<"sec-websocket-protocol">>, <<"mcp">>, Req);
                false -> Req
            end;
        undefined ->
            Req
    end.

%% @private
-spec websocket_init(#state{}) -> result().
websocket_init(#state{route = #{transport := Transport, owner := Owner, config := Config}} = State) ->
    case erlmcp_shm_net:join(Transport, peer) of
        {ok, Queue} ->
            _ = monitor(process, Transport),
            _ = erlang:send_after(?PING_MS, self(), ping),
            {[], State#state{queue = Queue, session = erlmcp_shm_session:new(Transport, Owner, Config)}};
        {error, _} ->
            {[{close, 1013, <<"try again later">>}], State}
    end.

%% @private
-spec websocket_handle({text | binary, binary()}, #state{}) -> result().
websocket_handle({text, Text}, #state{ip = Ip, route = Route, session = Session} = State) when Session =/= undefined ->
    case erlmcp_shm_net:within_rate(Ip, Route) of
        true ->
            {Out, New} = erlmcp_shm_session:received(Text, Session),
            {frames(Out), State#state{session = New}};
        false ->
            {[{close, 1008, <<"too many messages">>}], State}
    end;
websocket_handle({binary, _}, State) ->
    {[{close, 1003, <<"text only">>}], State};
websocket_handle(_, State) ->
    {[], State}.

%% @private
-spec websocket_info(term(), #state{}) -> result().
websocket_info(Message, #state{queue = Queue, session = Session, route = #{transport := Transport}} = State) when
    Session =/= undefined
->
    case {erlmcp_shm_net:is_dropped(Queue), Message} of
        {true, _} ->
            {[{close, 1008, <<"slow client">>}], State};
        {false, erlmcp_shm_close} ->
            done(erlmcp_shm_session:drain(Session), State#state{closing = true});
        {false, {'DOWN', _, process, Transport, _}} ->
            %% What it had taken still goes out.
            done(erlmcp_shm_session:drain(Session), State#state{closing = true});
        {false, ping} ->
            _ = erlang:send_after(?PING_MS, self(), ping),
            {[ping], State};
        {false, {erlmcp_shm_send, Data}} ->
            ok = erlmcp_shm_net:taken(Queue, Data),
            told(Message, State);
        {false, _} ->
            told(Message, State)
    end;
websocket_info(_, State) ->
    {[], State}.

told(Message, #state{session = Session} = State) ->
    case erlmcp_shm_session:message(Message, Session) of
        unknown -> {[], State};
        Done -> done(Done, State)
    end.

done({Out, Session}, #state{closing = Closing} = State) ->
    Close =
        case Closing andalso erlmcp_shm_session:pending(Session) =:= 0 of
            true -> [{close, 1001, <<"going away">>}];
            false -> []
        end,
    {frames(Out) ++ Close, State#state{session = Session}}.

%% Frames that are returned together are written together.
frames(Out) ->
    [{text, Json} || Json <- Out].
