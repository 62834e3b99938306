%% @doc HTTP with server-sent events, as until 2024-11-05: a GET opens a stream, whose first event says where to post
%% messages to; everything that goes to the client, answers included, comes through the stream.
-module(erlmcp_shm_transport_sse).

-behaviour(erlmcp_shm_transport).
-behaviour(cowboy_loop).

-export([start_link/2, send/2, close/1, get_info/1, probe/2]).

-export([init/2, info/3]).

-define(COMMENT_MS, 15000).
%% How long a message waits for a client to read what it has been sent.
-define(POST_MS, 10000).

-record(state, {
    stream :: erlmcp_shm_http:stream(),
    queue :: erlmcp_shm_net:queue(),
    session :: erlmcp_shm_session:session(),
    %% Only what is pending is waited for.
    closing = false :: boolean()
}).

%%% The behaviour

-spec start_link(map(), pid()) -> {ok, pid()} | {error, term()}.
start_link(Config, Owner) ->
    erlmcp_shm_net:start_link(sse, ?MODULE, Config, Owner).

-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    erlmcp_shm_transport:send(Pid, Data).

-spec close(pid()) -> ok.
close(Pid) ->
    erlmcp_shm_net:close(Pid).

-spec get_info(pid()) -> erlmcp_shm_transport:info().
get_info(Pid) ->
    erlmcp_shm_net:get_info(sse, Pid).

-spec probe(pid(), timeout()) -> {ok, float()} | {error, term()}.
probe(Pid, Timeout) ->
    erlmcp_shm_net:probe(Pid, Timeout).

%%% Requests

%% @private
-spec init(cowboy_req:req(), map()) -> {ok, cowboy_req:req(), map()} | {cowboy_loop, cowboy_req:req(), #state{}}.
init(#{method := <<"GET">>} = Req, #{transport := Transport, owner := Owner, config := Config} = Route) ->
    Id = base64:encode(crypto:strong_rand_bytes(24)),
    case erlmcp_shm_net:join(Transport, {peer, Id}) of
        {ok, Queue} ->
            _ = monitor(process, Transport),
            _ = erlang:send_after(?COMMENT_MS, self(), comment),
            Stream = erlmcp_shm_http:stream(Req, Config),
            Query = uri_string:compose_query([{<<"sessionId">>, Id}]),
            ok = erlmcp_shm_http:events([{<<"endpoint">>, <<(cowboy_req:path(Req))/binary, "?", Query/binary>>}], Stream),
            Session = erlmcp_shm_session:new(Transport, Owner, Config),
            {cowboy_loop, Req, #state{stream = Stream, queue = Queue, session = Session}};
        {error, _} ->
            refuse(503, -32603, <<"Too many connections">>, Req, Route)
    end;
init(#{method := <<"POST">>} = Req, #{transport := Transport, config := Config} = Route) ->
    case session(Req, Transport) of
        {ok, Pid} ->
            case erlmcp_shm_http:body(Req, Config) of
                {ok, Text, Read} ->
                    case post(Pid, Text) of
                        ok -> {ok, cowboy_req:reply(202, Read), Route};
                        closed -> refuse(404, -32600, <<"No such session">>, Read, Route);
                        busy -> refuse(503, -32603, <<"The stream is not read">>, Read, Route)
                    end;
                {error, too_large, Read} ->
                    refuse(413, -32600, <<"Message too large">>, Read, Route);
                {error, encoding, Read} ->
                    refuse(415, -32600, <<"Unknown content encoding">>, Read, Route)
            end;
        error ->
            refuse(404, -32600, <<"No such session">>, Req, Route)
    end;
init(Req, Route) ->
    Allowed = cowboy_req:set_resp_header(<<"allow">>, <<"GET, POST">>, Req),
    refuse(405, -32600, <<"Method not allowed">>, Allowed, Route).

refuse(Status, Code, Message, Req, Route) ->
    {ok, erlmcp_shm_admission:refuse(Status, Code, Message, Req), Route}.

session(Req, Transport) ->
    case lists:keyfind(<<"sessionId">>, 1, cowboy_req:parse_qs(Req)) of
        {_, Id} when is_binary(Id) -> erlmcp_shm_net:find(Transport, Id);
        _ -> error
    end.

%% A client that posts and does not read is made to wait.
post(Pid, Text) ->
    Monitor = monitor(process, Pid),
    Pid ! {posted, self(), Monitor, Text},
    receive
        {taken, Monitor} ->
            true = demonitor(Monitor, [flush]),
            ok;
        {'DOWN', Monitor, process, Pid, _} ->
            closed
    after ?POST_MS ->
        true = demonitor(Monitor, [flush]),
        busy
    end.

%%% The stream

%% @private
-spec info(term(), cowboy_req:req(), #state{}) -> {ok | stop, cowboy_req:req(), #state{}}.
info(Message, Req, #state{queue = Queue, stream = Stream, session = Session} = State) ->
    case {erlmcp_shm_net:is_dropped(Queue), Message} of
        {true, _} ->
            {stop, Req, State};
        {false, erlmcp_shm_close} ->
            done(erlmcp_shm_session:drain(Session), Req, State#state{closing = true});
        {false, {posted, From, Ref, Text}} ->
            {Out, New} = erlmcp_shm_session:received(Text, Session),
            From ! {taken, Ref},
            ok = erlmcp_shm_http:events(Out, Stream),
            {ok, Req, State#state{session = New}};
        {false, comment} ->
            _ = erlang:send_after(?COMMENT_MS, self(), comment),
            ok = erlmcp_shm_http:comment(Stream),
            {ok, Req, State};
        {false, {erlmcp_shm_send, Data}} ->
            Told = told(Message, Req, State),
            ok = erlmcp_shm_net:taken(Queue, Data),
            Told;
        {false, {'DOWN', _, process, _, _}} ->
            %% The transport is gone; what it had taken still goes out.
            done(erlmcp_shm_session:drain(Session), Req, State#state{closing = true});
        {false, _} ->
            told(Message, Req, State)
    end.

told(Message, Req, #state{session = Session} = State) ->
    case erlmcp_shm_session:message(Message, Session) of
        unknown -> {ok, Req, State};
        Done -> done(Done, Req, State)
    end.

done({Out, Session}, Req, #state{stream = Stream, closing = Closing} = State) ->
    New = State#state{session = Session},
    case Closing andalso erlmcp_shm_session:pending(Session) =:= 0 of
        true ->
            ok = erlmcp_shm_http:finish(Out, Stream),
            {stop, Req, New};
        false ->
            ok = erlmcp_shm_http:events(Out, Stream),
            {ok, Req, New}
    end.
