%% @doc Streamable HTTP: one path, to which messages are posted. What answers is a JSON body, or a stream of events
%% where there is more to tell than the result.
%%
%% Requests of 2026-07-28 stand for themselves, and are cancelled by closing the connection. Those before belong to a
%% session, whose notifications come as the answer to a GET; what is sent through this transport goes there too.
-module(erlmcp_shm_transport_http).

-behaviour(erlmcp_shm_transport).
-behaviour(cowboy_loop).

-export([start_link/2, send/2, close/1, get_info/1, probe/2]).

-export([init/2, info/3]).

-include("erlmcp_shm_endpoint.hrl").

-define(COMMENT_MS, 15000).

-record(state, {
    route :: map(),
    %% The request that is being answered; undefined for a session's GET.
    id :: binary() | integer() | undefined,
    %% Where its events come from: a session of its own, or the client's.
    endpoint :: erlmcp_shm_endpoint:session() | undefined,
    session :: pid() | undefined,
    stream :: erlmcp_shm_http:stream() | undefined,
    queue = none :: erlmcp_shm_net:queue() | none,
    batch :: erlmcp_shm_batch:batch()
}).

-type begun() :: {ok | cowboy_loop, cowboy_req:req(), #state{} | map()}.

%%% The behaviour

-spec start_link(map(), pid()) -> {ok, pid()} | {error, term()}.
start_link(Config, Owner) ->
    erlmcp_shm_net:start_link(http, ?MODULE, Config, Owner).

-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    erlmcp_shm_transport:send(Pid, Data).

-spec close(pid()) -> ok.
close(Pid) ->
    erlmcp_shm_net:close(Pid).

-spec get_info(pid()) -> erlmcp_shm_transport:info().
get_info(Pid) ->
    erlmcp_shm_net:get_info(http, Pid).

-spec probe(pid(), timeout()) -> {ok, float()} | {error, term()}.
probe(Pid, Timeout) ->
    erlmcp_shm_net:probe(Pid, Timeout).

%%% Requests

%% @private
-spec init(cowboy_req:req(), map()) -> begun().
init(#{method := <<"POST">>} = Req, Route) ->
    posted(Req, Route);
init(#{method := Method} = Req, Route) when Method =:= <<"GET">>; Method =:= <<"DELETE">> ->
    case session(Req, Route) of
        {ok, Session} when Method =:= <<"GET">> ->
            listen(Session, Req, Route);
        {ok, Session} ->
            ok = erlmcp_shm_http_session:stop(Session),
            {ok, cowboy_req:reply(204, Req), Route};
        none ->
            not_allowed(Req, Route);
        error ->
            refuse(404, -32600, <<"No such session">>, Req, Route)
    end;
init(Req, Route) ->
    not_allowed(Req, Route).

not_allowed(Req, Route) ->
    Allowed = cowboy_req:set_resp_header(<<"allow">>, <<"POST">>, Req),
    refuse(405, -32600, <<"Method not allowed">>, Allowed, Route).

refuse(Status, Code, Message, Req, Route) ->
    {ok, erlmcp_shm_admission:refuse(Status, Code, Message, Req), Route}.

session(Req, #{transport := Transport}) ->
    case cowboy_req:header(<<"mcp-session-id">>, Req) of
        undefined -> none;
        Id -> erlmcp_shm_net:find(Transport, Id)
    end.

posted(Req, #{config := Config} = Route) ->
    case {accepts(Req), erlmcp_shm_http:is_json(Req)} of
        {true, true} ->
            case erlmcp_shm_http:body(Req, Config) of
                {ok, Text, Read} -> message(Text, erlmcp_shm_json:decode(Text), Read, Route);
                {error, too_large, Read} -> refuse(413, -32600, <<"Message too large">>, closing(Read), Route);
                {error, encoding, Read} -> refuse(415, -32600, <<"Unknown content encoding">>, Read, Route)
            end;
        {false, _} ->
            refuse(406, -32600, <<"Not acceptable: accept application/json and text/event-stream">>, Req, Route);
        {_, false} ->
            refuse(415, -32600, <<"The content type is application/json">>, Req, Route)
    end.

%% What was not read of a body stands in the way of the next request.
closing(#{version := 'HTTP/2'} = Req) ->
    Req;
closing(Req) ->
    cowboy_req:set_resp_header(<<"connection">>, <<"close">>, Req).

accepts(Req) ->
    case cowboy_req:header(<<"accept">>, Req) of
        undefined -> true;
        Accept -> binary:match(Accept, [<<"application/json">>, <<"text/event-stream">>, <<"application/*">>, <<"*/*">>]) =/= nomatch
    end.

%% A message that belongs to a session, begins one, or needs none.
message(Text, {ok, #{<<"method">> := <<"initialize">>} = Message}, Req, Route) ->
    case named(Message) of
        modern -> checked(Text, Message, Req, Route);
        _ -> begun(Text, Message, Req, Route)
    end;
message(Text, {ok, #{} = Message}, Req, Route) ->
    checked(Text, Message, Req, Route);
message(Text, _, Req, Route) ->
    alone(#{}, Text, Req, Route).

begun(Text, Message, Req, #{transport := Transport, owner := Owner, config := Config} = Route) ->
    case erlmcp_shm_http_session:start(Transport, Owner, Config) of
        {ok, Session, Id} ->
            in_session(Session, Message, Text, cowboy_req:set_resp_header(<<"mcp-session-id">>, Id, Req), Route);
        {error, _} ->
            refuse(503, -32603, <<"Too many connections">>, Req, Route)
    end.

checked(Text, Message, Req, Route) ->
    case erlmcp_shm_http_headers:check(Message, Req) of
        ok ->
            case is_modern(Message, Req) orelse session(Req, Route) of
                true -> alone(Message, Text, Req, Route);
                {ok, Session} -> in_session(Session, Message, Text, Req, Route);
                error -> refuse(404, -32600, <<"No such session">>, Req, Route);
                none -> refuse(400, -32600, <<"Neither a session nor a protocol version that needs none">>, Req, Route)
            end;
        {error, Why} ->
            answer(refusal(maps:get(<<"id">>, Message, undefined), -32020, Why), 400, Req, Route)
    end.

%% By what the body says, else by what the header does.
is_modern(Message, Req) ->
    case named(Message) of
        unnamed -> era(erlmcp_shm_http_headers:version(Req)) =:= modern;
        Era -> Era =:= modern
    end.

named(#{<<"params">> := #{<<"_meta">> := #{?META_VERSION := Version}}}) -> era(Version);
named(_) -> unnamed.

era(undefined) ->
    unnamed;
era(Version) ->
    case lists:member(Version, ?LEGACY) of
        true -> legacy;
        false -> modern
    end.

refusal(Id, Code, Message) ->
    Base = #{jsonrpc => <<"2.0">>, error => #{code => Code, message => Message}},
    {ok, Json} = erlmcp_shm_json:encode(
        case is_binary(Id) orelse is_integer(Id) of
            true -> Base#{id => Id};
            false -> Base
        end
    ),
    Json.

answer(Json, Status, Req, #{config := Config} = Route) ->
    {ok, erlmcp_shm_http:reply(Status, Json, Req, Config), Route}.

alone(Message, Text, Req, #{config := Config} = Route) ->
    {Events, Endpoint} = erlmcp_shm_endpoint:handle(Text, erlmcp_shm_endpoint:new(Config#{stateless => true})),
    State = (new(Message, Route))#state{endpoint = Endpoint},
    accepted(Events, Req, State).

in_session(Session, Message, Text, Req, Route) ->
    State = (new(Message, Route))#state{session = Session},
    case erlmcp_shm_http_session:post(Session, State#state.id, Text) of
        {ok, Events} -> accepted(Events, Req, State);
        {error, closed} -> refuse(404, -32600, <<"No such session">>, Req, Route)
    end.

new(Message, #{config := Config} = Route) ->
    Id =
        case Message of
            #{<<"method">> := _, <<"id">> := Given} when is_binary(Given); is_integer(Given) -> Given;
            _ -> undefined
        end,
    #state{route = Route, id = Id, batch = erlmcp_shm_batch:new(Config)}.

%% A request is answered now, or waited for; anything else is accepted.
accepted(Events, Req, #state{route = #{transport := Transport, owner := Owner} = Route, id = Id} = State) ->
    _ = [Owner ! {transport_message, Transport, Json} || {owner, Json} <- Events],
    case [Event || {reply, _, _, _} = Event <- Events] of
        [{reply, _, Status, Json} | _] ->
            answer(Json, status(Status, State), Req, Route);
        [] when Id =:= undefined ->
            {ok, cowboy_req:reply(202, Req), Route};
        [] ->
            case erlmcp_shm_net:join(Transport, request) of
                {ok, none} ->
                    ok = watched(State),
                    case tell(Events, Req, State) of
                        {ok, _, Going} -> {cowboy_loop, Req, Going};
                        {stop, Replied, Done} -> {ok, Replied, Done}
                    end;
                {error, _} ->
                    refuse(503, -32603, <<"Too many connections">>, Req, Route)
            end
    end.

%% Errors of a session's requests are answers like any other.
status(400, #state{session = Session}) when Session =/= undefined -> 400;
status(_, #state{session = Session}) when Session =/= undefined -> 200;
status(Status, _) -> Status.

watched(#state{session = Session, route = #{transport := Transport}}) ->
    _ = monitor(process, Transport),
    _ = Session =:= undefined orelse monitor(process, Session),
    _ = erlang:send_after(?COMMENT_MS, self(), comment),
    ok.

%%% The answer to a GET

listen(Session, Req, #{transport := Transport, config := Config} = Route) ->
    case erlmcp_shm_net:join(Transport, peer) of
        {ok, Queue} ->
            case erlmcp_shm_http_session:attach(Session) of
                ok ->
                    State = (new(#{}, Route))#state{session = Session, queue = Queue, stream = erlmcp_shm_http:stream(Req, Config)},
                    ok = watched(State),
                    ok = erlmcp_shm_http:comment(State#state.stream),
                    {cowboy_loop, Req, State};
                {error, taken} ->
                    refuse(409, -32600, <<"The session has a stream already">>, Req, Route);
                {error, closed} ->
                    refuse(404, -32600, <<"No such session">>, Req, Route)
            end;
        {error, _} ->
            refuse(503, -32603, <<"Too many connections">>, Req, Route)
    end.

%%% While it lasts

%% @private
-spec info(term(), cowboy_req:req(), #state{}) -> {ok | stop, cowboy_req:req(), #state{}}.
info({erlmcp_shm_events, Events}, Req, State) ->
    tell(Events, Req, State);
info({erlmcp_shm_notify, Session, Notes}, Req, #state{stream = Stream} = State) ->
    ok = erlmcp_shm_http:events(Notes, Stream),
    Session ! {noted, Session},
    {ok, Req, State};
info({erlmcp_shm_send, Data}, Req, #state{queue = Queue, batch = Batch} = State) ->
    case erlmcp_shm_net:is_dropped(Queue) of
        true ->
            ended([], Req, State);
        false ->
            {Out, New} = erlmcp_shm_batch:add(Data, Batch),
            ok = erlmcp_shm_http:events(Out, State#state.stream),
            ok = erlmcp_shm_net:taken(Queue, Data),
            {ok, Req, State#state{batch = New}}
    end;
info(erlmcp_shm_batch_due, Req, #state{batch = Batch, stream = Stream} = State) ->
    {Out, New} = erlmcp_shm_batch:take(Batch),
    ok = erlmcp_shm_http:events(Out, Stream),
    {ok, Req, State#state{batch = New}};
info(comment, Req, #state{stream = Stream} = State) ->
    _ = erlang:send_after(?COMMENT_MS, self(), comment),
    ok = Stream =:= undefined orelse erlmcp_shm_http:comment(Stream),
    {ok, Req, State};
info(erlmcp_shm_close, Req, #state{id = undefined} = State) ->
    ended([], Req, State);
info(erlmcp_shm_close, Req, #state{endpoint = undefined} = State) ->
    %% The session waits for its calls.
    {ok, Req, State};
info(erlmcp_shm_close, Req, #state{endpoint = Endpoint} = State) ->
    {Events, New} = erlmcp_shm_endpoint:drain(Endpoint),
    tell(Events, Req, State#state{endpoint = New});
info({'DOWN', _, process, _, _}, Req, State) ->
    ended([], Req, State);
info(Message, Req, #state{endpoint = Endpoint} = State) when Endpoint =/= undefined ->
    case erlmcp_shm_endpoint:info(Message, Endpoint) of
        {Events, New} -> tell(Events, Req, State#state{endpoint = New});
        unknown -> {ok, Req, State}
    end;
info(_, Req, State) ->
    {ok, Req, State}.

%% The first event that is not the answer makes it a stream.
tell(Events, Req, #state{id = Id} = State) ->
    Notes = [Json || {about, About, Json} <- Events, About =:= Id],
    case [Event || Event <- Events, is_end(Event, Id)] of
        [] -> {ok, Req, noted(Notes, Req, State)};
        End -> ended(End, Req, noted(Notes, Req, State))
    end.

is_end({reply, Id, _, _}, Id) -> true;
is_end({cancelled, Id}, Id) -> true;
is_end(_, _) -> false.

noted([], _, State) ->
    State;
noted(Notes, Req, #state{stream = undefined, route = #{config := Config}} = State) ->
    noted(Notes, Req, State#state{stream = erlmcp_shm_http:stream(Req, Config)});
noted(Notes, _, #state{stream = Stream} = State) ->
    ok = erlmcp_shm_http:events(Notes, Stream),
    State.

ended(Events, Req, #state{stream = undefined, route = #{config := Config}} = State) ->
    Replied =
        case Events of
            [{reply, _, Status, Json} | _] -> erlmcp_shm_http:reply(status(Status, State), Json, Req, Config);
            [{cancelled, _} | _] -> cowboy_req:reply(204, Req);
            [] -> erlmcp_shm_admission:refuse(503, -32603, <<"Going away">>, Req)
        end,
    {stop, Replied, State};
ended(Events, Req, #state{stream = Stream, batch = Batch} = State) ->
    {Waited, New} = erlmcp_shm_batch:take(Batch),
    ok = erlmcp_shm_http:finish(Waited ++ [Json || {reply, _, _, Json} <- Events], Stream),
    {stop, Req, State#state{batch = New}}.
