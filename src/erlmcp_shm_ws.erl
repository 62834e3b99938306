%% @private
%% A WebSocket connection: the frames are cowlib's, the loop around them is ours, because of what is compressed.
%%
%% That can grow a thousandfold, and cowboy unpacks it as a whole before anybody sees how large it gets (its newest versions
%% apart). Here a message is unpacked piece by piece as it comes in, and no further than it may be long: what
%% waits in memory for its end is never more than that, however it was compressed or split into frames.
%%
%% A handler is that of cowboy_websocket, as far as ours go: `websocket_init/1', `websocket_handle/2' for whole messages
%% and `websocket_info/2', each of which returns frames to send and its state. HTTP/1.1 only.
-module(erlmcp_shm_ws).

-behaviour(cowboy_sub_protocol).

-export([upgrade/4, upgrade/5, takeover/7]).
-export([system_continue/3, system_terminate/4, system_code_change/4]).

-export_type([options/0]).

-type options() :: #{
    %% Whether permessage-deflate is agreed to.
    compress => boolean(),
    %% After so long without a byte the connection is closed.
    idle_timeout => pos_integer(),
    max_message_bytes => pos_integer()
}.

-define(ACTIVE, 100).
%% How long a peer that is closed for what it sent may go on sending: it would not read why, were its data refused.
-define(LINGER_MS, 1000).

-record(ws, {
    parent :: pid() | undefined,
    socket :: term(),
    transport :: module() | undefined,
    handler :: module(),
    state :: term(),
    extensions :: map(),
    max :: pos_integer(),
    idle :: pos_integer(),
    %% Whether anything has come since the timer was started.
    heard = false :: boolean(),
    %% What was not looked at yet: the beginning of a header, or of a control frame.
    buffer = <<>> :: binary(),
    fragments :: cow_ws:frag_state(),
    frame = none :: none | {cow_ws:mask_key(), Done :: non_neg_integer(), Left :: non_neg_integer()},
    %% The message that is coming in, and its size on the wire. (One binary that grows: a list of pieces would take a
    %% multiple of it, were they of a byte each.)
    type = text :: text | binary,
    compressed = false :: boolean(),
    data = <<>> :: binary(),
    wire = 0 :: non_neg_integer()
}).

%%% The request becomes a connection

-spec upgrade(Req, Env, module(), term()) -> {ok, Req, Env} when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
upgrade(Req, Env, Handler, State) ->
    upgrade(Req, Env, Handler, State, #{}).

-spec upgrade(Req, Env, module(), term(), options()) -> {ok, Req, Env} when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
upgrade(Req, Env, Handler, State, Options) ->
    case accepts(Req) of
        {ok, Key} ->
            {Extensions, Answered} = extensions(Options, Req),
            Ws = #ws{
                handler = Handler,
                state = State,
                extensions = Extensions,
                max = maps:get(max_message_bytes, Options, 1 bsl 22),
                idle = maps:get(idle_timeout, Options, 60000)
            },
            _ = switch(Key, Ws, Answered),
            {ok, Answered, Env};
        upgrade_required ->
            Headers = #{<<"connection">> => <<"upgrade">>, <<"upgrade">> => <<"websocket">>},
            {ok, cowboy_req:reply(426, Headers, Req), Env};
        bad_request ->
            {ok, cowboy_req:reply(400, Req), Env}
    end.

accepts(#{version := 'HTTP/1.1'} = Req) ->
    try {cowboy_websocket:is_upgrade_request(Req), cowboy_req:header(<<"sec-websocket-key">>, Req)} of
        {false, _} ->
            upgrade_required;
        {true, Key} when is_binary(Key) ->
            case cowboy_req:parse_header(<<"sec-websocket-version">>, Req) of
                13 -> {ok, Key};
                _ -> bad_request
            end;
        {true, undefined} ->
            bad_request
    catch
        _:_ -> bad_request
    end;
accepts(_) ->
    bad_request.

%% The first offer that can be met.
extensions(#{compress := true}, Req) ->
    try cowboy_req:parse_header(<<"sec-websocket-extensions">>, Req) of
        Offers when is_list(Offers) -> negotiate([Params || {<<"permessage-deflate">>, Params} <- Offers], Req);
        undefined -> {#{}, Req}
    catch
        _:_ -> {#{}, Req}
    end;
extensions(_, Req) ->
    {#{}, Req}.

%% The option `owner', without which zlib would serve the request's process only, is missing in the type of cowlib 2.
-dialyzer({no_fail_call, negotiate/2}).
negotiate([], Req) ->
    {#{}, Req};
negotiate([Params | Others], #{pid := Pid} = Req) ->
    try cow_ws:negotiate_permessage_deflate(Params, #{}, #{owner => Pid}) of
        {ok, Agreed, Extensions} -> {Extensions, cowboy_req:set_resp_header(<<"sec-websocket-extensions">>, Agreed, Req)};
        ignore -> negotiate(Others, Req)
    catch
        %% What this zlib cannot do.
        exit:{error, incompatible_zlib_version, _} -> negotiate(Others, Req)
    end.

switch(Key, Ws, #{pid := Pid, streamid := Stream} = Req) ->
    Accept = base64:encode(crypto:hash(sha, <<Key/binary, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11">>)),
    Upgrade = #{<<"connection">> => <<"Upgrade">>, <<"upgrade">> => <<"websocket">>, <<"sec-websocket-accept">> => Accept},
    Pid ! {{Pid, Stream}, {switch_protocol, cowboy_req:response_headers(Upgrade, Req), ?MODULE, Ws}}.

%%% The connection

%% @doc Called by cowboy in the connection's process.
-spec takeover(pid(), ranch:ref(), term(), module(), map(), binary(), #ws{}) -> no_return().
takeover(Parent, Ref, Socket, Transport, _Options, Buffer, #ws{handler = Handler, state = State} = Before) ->
    ranch:remove_connection(Ref),
    Ws = Before#ws{parent = Parent, socket = Socket, transport = Transport},
    ok = wait_for(Ws),
    Begun = done(Handler:websocket_init(State), Ws),
    activate(Begun),
    loop(parse(Buffer, Begun)).

loop(#ws{parent = Parent, socket = Socket, handler = Handler, state = State, heard = Heard} = Ws) ->
    receive
        {Tag, Socket, Data} when Tag =:= tcp; Tag =:= ssl ->
            loop(parse(Data, Ws#ws{heard = true}));
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive ->
            activate(Ws),
            loop(Ws);
        {Tag, Socket} when Tag =:= tcp_closed; Tag =:= ssl_closed ->
            exit(normal);
        {Tag, Socket, _Reason} when Tag =:= tcp_error; Tag =:= ssl_error ->
            exit(normal);
        {timeout, _, ?MODULE} when Heard ->
            ok = wait_for(Ws),
            loop(Ws#ws{heard = false});
        {timeout, _, ?MODULE} ->
            send([{close, 1000, <<>>}], Ws);
        {'EXIT', Parent, Reason} ->
            exit(Reason);
        {system, From, Request} ->
            sys:handle_system_msg(Request, From, Parent, ?MODULE, [], Ws);
        {'$gen_call', From, Call} ->
            _ = cowboy_children:handle_supervisor_call(Call, From, [], ?MODULE),
            loop(Ws);
        Message ->
            loop(done(Handler:websocket_info(Message, State), Ws))
    end.

activate(#ws{socket = Socket, transport = Transport}) ->
    %% That it is closed is told by a message.
    _ = Transport:setopts(Socket, [{active, ?ACTIVE}]).

wait_for(#ws{idle = Idle}) ->
    _ = erlang:start_timer(Idle, self(), ?MODULE),
    ok.

%% @private
-spec system_continue(pid(), term(), #ws{}) -> no_return().
system_continue(_, _, Ws) ->
    loop(Ws).

%% @private
-spec system_terminate(term(), pid(), term(), #ws{}) -> no_return().
system_terminate(Reason, _, _, _) ->
    exit(Reason).

%% @private
-spec system_code_change(#ws{}, module(), term(), term()) -> {ok, #ws{}}.
system_code_change(Ws, _, _, _) ->
    {ok, Ws}.

%%% What goes out

done({Frames, State}, Ws) ->
    send(Frames, Ws#ws{state = State}).

%% Frames that are given together are written together; after one that closes nothing comes.
send([], Ws) ->
    Ws;
send(Frames, #ws{socket = Socket, transport = Transport, extensions = Extensions} = Ws) ->
    {Before, After} = lists:splitwith(fun(Frame) -> element(1, Frame) =/= close end, [framed(Frame) || Frame <- Frames]),
    Closing = lists:sublist(After, 1),
    case {Transport:send(Socket, [cow_ws:frame(unframed(Frame), Extensions) || Frame <- Before ++ Closing]), Closing} of
        {ok, []} -> Ws;
        _ -> exit(normal)
    end.

framed(Frame) when is_atom(Frame) -> {Frame};
framed(Frame) -> Frame.

unframed({Frame}) -> Frame;
unframed(Frame) -> Frame.

-spec refuse(1002 | 1007 | 1009, #ws{}) -> no_return().
refuse(Code, #ws{socket = Socket, transport = Transport, extensions = Extensions}) ->
    case Transport:send(Socket, cow_ws:frame({close, Code, reason(Code)}, Extensions)) of
        ok ->
            _ = Transport:shutdown(Socket, write),
            _ = erlang:send_after(?LINGER_MS, self(), ?MODULE),
            linger(Socket, Transport);
        {error, _} ->
            exit(normal)
    end.

reason(1002) -> <<"protocol error">>;
reason(1007) -> <<"no such text">>;
reason(1009) -> <<"message too large">>.

linger(Socket, Transport) ->
    receive
        {Tag, Socket, _Data} when Tag =:= tcp; Tag =:= ssl ->
            linger(Socket, Transport);
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive ->
            _ = Transport:setopts(Socket, [{active, ?ACTIVE}]),
            linger(Socket, Transport);
        {Tag, Socket} when Tag =:= tcp_closed; Tag =:= ssl_closed ->
            exit(normal);
        ?MODULE ->
            exit(normal)
    end.

%%% What comes in

parse(Data, #ws{frame = none, buffer = <<>>} = Ws) ->
    header(Data, Ws);
parse(Data, #ws{frame = none, buffer = Buffer} = Ws) ->
    header(<<Buffer/binary, Data/binary>>, Ws#ws{buffer = <<>>});
parse(Data, #ws{frame = Frame} = Ws) ->
    payload(Data, Frame, Ws).

header(Data, #ws{extensions = Extensions, fragments = Fragments} = Ws) ->
    case cow_ws:parse_header(Data, Extensions, Fragments) of
        more ->
            Ws#ws{buffer = Data};
        error ->
            refuse(1002, Ws);
        %% A client masks.
        {_, _, _, _, undefined, _} ->
            refuse(1002, Ws);
        %% Only the first frame of a message says that it is compressed.
        {Type, _, Rsv, _, _, _} when Rsv =/= <<0:3>>, (Fragments =/= undefined orelse Type =:= close orelse Type =:= ping orelse Type =:= pong) ->
            refuse(1002, Ws);
        {Type, _, _, Length, Mask, Rest} when Type =:= close; Type =:= ping; Type =:= pong ->
            %% A short one, which may stand between the frames of a message.
            case Rest of
                <<Payload:Length/binary, After/binary>> -> header(After, control(Type, unmasked(Payload, Mask), Ws));
                _ -> Ws#ws{buffer = Data}
            end;
        {Type, Next, Rsv, Length, Mask, Rest} ->
            begun(Type, Next, Rsv, {Mask, 0, Length}, Rest, Ws#ws{fragments = Next})
    end.

%% The first frame says what the message is, and whether it is compressed. On the wire that may be longer than it is in
%% the end, if it does not compress, by less than this.
begun(Type, Next, Rsv, {_, _, Length} = Frame, Rest, #ws{wire = Wire, max = Max} = Ws) ->
    {Message, <<Compressed:1, _:2>>} =
        case Next of
            undefined -> {Type, Rsv};
            {_, Whole, First} -> {Whole, First}
        end,
    Most =
        case Compressed of
            1 -> Max + Max div 8 + 1024;
            0 -> Max
        end,
    case Wire + Length =< Most of
        true -> payload(Rest, Frame, Ws#ws{type = Message, compressed = Compressed =:= 1, wire = Wire + Length});
        false -> refuse(1009, Ws)
    end.

payload(Data, {Mask, Done, Left}, #ws{fragments = Fragments} = Ws) ->
    case cow_ws:parse_payload(Data, Mask, undefined, Done, fragment, Left, Fragments, #{}, <<0:3>>) of
        {more, Part, _} ->
            Size = byte_size(Data),
            (piece(Part, Ws))#ws{frame = {Mask, Done + Size, Left - Size}};
        {ok, Part, _, Rest} ->
            header(Rest, ended((piece(Part, Ws))#ws{frame = none}))
    end.

piece(<<>>, Ws) ->
    Ws;
piece(Part, #ws{compressed = true, extensions = #{inflate := Z}} = Ws) ->
    try
        inflated(zlib:safeInflate(Z, Part), Z, Ws)
    catch
        error:data_error -> refuse(1007, Ws)
    end;
piece(Part, Ws) ->
    grown(Part, Ws).

inflated({finished, Part}, _, Ws) -> grown(Part, Ws);
inflated({continue, Part}, Z, Ws) -> inflated(zlib:safeInflate(Z, []), Z, grown(Part, Ws)).

grown(Part, #ws{data = Data, max = Max} = Ws) ->
    case byte_size(Data) + iolist_size(Part) =< Max of
        true -> Ws#ws{data = joined(Part, Data)};
        false -> refuse(1009, Ws)
    end.

%% One after the other, so that what was unpacked is copied once.
joined(Part, Data) when is_binary(Part) -> <<Data/binary, Part/binary>>;
joined(Parts, Data) -> lists:foldl(fun joined/2, Data, Parts).

%% A frame has. Of a compressed message the last four bytes are not sent.
ended(#ws{fragments = {nofin, _, _}} = Ws) ->
    Ws;
ended(#ws{compressed = true, extensions = #{inflate := Z, inflate_takeover := TakeOver}} = Ws) ->
    Whole = piece(<<0, 0, 255, 255>>, Ws),
    _ = [zlib:inflateReset(Z) || TakeOver =:= no_takeover],
    message(Whole);
ended(Ws) ->
    message(Ws).

message(#ws{type = Type, data = Data, handler = Handler, state = State} = Ws) ->
    case Type =:= binary orelse is_text(Data) of
        true ->
            Next = Ws#ws{fragments = undefined, compressed = false, data = <<>>, wire = 0},
            done(Handler:websocket_handle({Type, Data}, State), Next);
        false ->
            refuse(1007, Ws)
    end.

control(pong, _, Ws) ->
    Ws;
control(ping, Payload, Ws) ->
    send([{pong, Payload}], Ws);
control(close, <<Code:16, Reason/binary>>, Ws) when
    %% The others are for programs to tell themselves, or nobody's yet.
    Code >= 1000, Code =< 1003; Code >= 1007, Code =< 1014; Code >= 3000, Code =< 4999
->
    case is_text(Reason) of
        true -> send([{close, Code, <<>>}], Ws);
        false -> refuse(1007, Ws)
    end;
control(close, <<>>, Ws) ->
    send([close], Ws);
control(close, _, Ws) ->
    refuse(1002, Ws).

is_text(Data) ->
    is_binary(unicode:characters_to_binary(Data)).

unmasked(Payload, Mask) ->
    {ok, Plain, _, <<>>} = cow_ws:parse_payload(Payload, Mask, undefined, 0, ping, byte_size(Payload), undefined, #{}, <<0:3>>),
    Plain.
