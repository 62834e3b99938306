%% @private
%% What HTTP and SSE share: bodies in and out, plain or gzipped and never larger than allowed; streams of events.
-module(erlmcp_shm_http).

-export([body/2, reply/4, stream/2, events/2, comment/1, finish/2, is_json/1]).

-export_type([stream/0]).

%% Shorter than this, gzip only adds to a body.
-define(GZIP_FROM, 860).
%% zlib's number for the gzip format.
-define(GZIP, 31).

-record(stream, {req :: cowboy_req:req(), zlib :: zlib:zstream() | none}).

-opaque stream() :: #stream{}.

%% @doc The body of a request. One that is too large is not read to its end.
-spec body(cowboy_req:req(), map()) ->
    {ok, binary(), cowboy_req:req()} | {error, too_large | encoding, cowboy_req:req()}.
body(Req, Config) ->
    Max = erlmcp_shm_transport_config:option(max_message_bytes, Config),
    case cowboy_req:body_length(Req) of
        Length when is_integer(Length), Length > Max -> {error, too_large, Req};
        _ -> body(Req, Max, [], 0)
    end.

body(Req, Max, Parts, Size) ->
    {More, Part, Next} = cowboy_req:read_body(Req, #{length => Max + 1 - Size, period => 15000}),
    Now = Size + byte_size(Part),
    case More of
        _ when Now > Max -> {error, too_large, Next};
        more -> body(Next, Max, [Parts, Part], Now);
        ok -> decoded(iolist_to_binary([Parts, Part]), Max, Next)
    end.

decoded(Body, Max, Req) ->
    case cowboy_req:header(<<"content-encoding">>, Req, <<"identity">>) of
        <<"identity">> ->
            {ok, Body, Req};
        <<"gzip">> ->
            case unzip(Body, Max) of
                {ok, Plain} -> {ok, Plain, Req};
                {error, Reason} -> {error, Reason, Req}
            end;
        _ ->
            {error, encoding, Req}
    end.

%% A few bytes can be the gzip of very many: it is unpacked bit by bit, and no further than allowed.
unzip(Body, Max) ->
    Z = zlib:open(),
    try
        ok = zlib:inflateInit(Z, ?GZIP),
        unzip(Z, zlib:safeInflate(Z, Body), Max, [], 0)
    catch
        error:_ -> {error, encoding}
    after
        zlib:close(Z)
    end.

unzip(Z, {More, Part}, Max, Parts, Size) ->
    Now = Size + iolist_size(Part),
    case More of
        _ when Now > Max -> {error, too_large};
        continue -> unzip(Z, zlib:safeInflate(Z, []), Max, [Parts, Part], Now);
        finished -> {ok, iolist_to_binary([Parts, Part])}
    end.

%% @doc A JSON body.
-spec reply(cowboy:http_status(), binary(), cowboy_req:req(), map()) -> cowboy_req:req().
reply(Status, Json, Req, Config) ->
    Headers = #{<<"content-type">> => <<"application/json">>},
    case byte_size(Json) >= ?GZIP_FROM andalso zips(Req, Config) of
        true ->
            Zipped = Headers#{<<"content-encoding">> => <<"gzip">>, <<"vary">> => <<"accept-encoding">>},
            cowboy_req:reply(Status, Zipped, zlib:gzip(Json), Req);
        false ->
            cowboy_req:reply(Status, Headers, Json, Req)
    end.

zips(Req, Config) ->
    maps:get(compression, Config, none) =:= gzip andalso
        case cowboy_req:parse_header(<<"accept-encoding">>, Req) of
            undefined -> false;
            Accepted -> lists:any(fun({Name, Quality}) -> Name =:= <<"gzip">> andalso Quality > 0 end, Accepted)
        end.

%% @doc Begins a stream of server-sent events.
-spec stream(cowboy_req:req(), map()) -> stream().
stream(Req, Config) ->
    Headers = #{
        <<"content-type">> => <<"text/event-stream">>,
        <<"cache-control">> => <<"no-cache">>,
        %% Proxies are asked not to wait until they have more.
        <<"x-accel-buffering">> => <<"no">>
    },
    case zips(Req, Config) of
        true ->
            Z = zlib:open(),
            ok = zlib:deflateInit(Z, default, deflated, ?GZIP, 8, default),
            Zipped = Headers#{<<"content-encoding">> => <<"gzip">>, <<"vary">> => <<"accept-encoding">>},
            #stream{req = cowboy_req:stream_reply(200, Zipped, Req), zlib = Z};
        false ->
            #stream{req = cowboy_req:stream_reply(200, Headers, Req), zlib = none}
    end.

%% @doc Events in one write, `{Name, Data}' or the data of a message. Returns once the connection has taken it.
-spec events([binary() | {binary(), binary()}], stream()) -> ok.
events([], _) ->
    ok;
events(Events, Stream) ->
    write([event(Event) || Event <- Events], Stream).

event({Name, Data}) -> [<<"event: ">>, Name, <<"\ndata: ">>, Data, <<"\n\n">>];
event(Data) -> [<<"event: message\ndata: ">>, Data, <<"\n\n">>].

%% @doc Something that is nothing, so that nobody on the way takes the connection for dead.
-spec comment(stream()) -> ok.
comment(Stream) ->
    write(<<":\n\n">>, Stream).

write(Data, #stream{req = Req, zlib = none}) ->
    cowboy_req:stream_body(Data, nofin, Req);
write(Data, #stream{req = Req, zlib = Z}) ->
    cowboy_req:stream_body(zlib:deflate(Z, Data, sync), nofin, Req).

%% @doc The last events, and the end of the stream.
-spec finish([binary()], stream()) -> ok.
finish(Events, #stream{req = Req, zlib = none}) ->
    cowboy_req:stream_body([event(Event) || Event <- Events], fin, Req);
finish(Events, #stream{req = Req, zlib = Z}) ->
    Last = zlib:deflate(Z, [event(Event) || Event <- Events], finish),
    ok = zlib:close(Z),
    cowboy_req:stream_body(Last, fin, Req).

%% @doc Whether the body says it is JSON, or says nothing.
-spec is_json(cowboy_req:req()) -> boolean().
is_json(Req) ->
    case cowboy_req:parse_header(<<"content-type">>, Req) of
        undefined -> true;
        {<<"application">>, <<"json">>, _} -> true;
        _ -> false
    end.
