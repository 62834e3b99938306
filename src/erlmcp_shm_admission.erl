%% @private
%% Whom a listener lets in: the middleware before every handler. A path there is, an origin that may, the token where
%% one is asked for, and no more requests than allowed.
-module(erlmcp_shm_admission).

-behaviour(cowboy_middleware).

-export([execute/2, refuse/4, either/1]).

-spec execute(cowboy_req:req(), cowboy_middleware:env()) ->
    {ok, cowboy_req:req(), cowboy_middleware:env()} | {stop, cowboy_req:req()}.
execute(Req, #{erlmcp_shm := Listener} = Env) ->
    case erlmcp_shm_listener:route(Listener, cowboy_req:path(Req)) of
        {ok, #{handler := Handler} = Route} ->
            Checks = [fun origin/2, fun preflight/2, fun token/2, fun options/2, fun rate/2],
            case check(Checks, Req, Route) of
                {ok, Admitted} -> {ok, Admitted, Env#{handler => Handler, handler_opts => Route}};
                {stop, _} = Stop -> Stop
            end;
        error ->
            {stop, refuse(404, -32600, <<"Not found">>, Req)}
    end.

check([], Req, _) ->
    {ok, Req};
check([Check | Checks], Req, Route) ->
    case Check(Req, Route) of
        {ok, Next} -> check(Checks, Next, Route);
        {stop, _} = Stop -> Stop
    end.

%% A page of somewhere else must not talk to this server through its visitor's browser. Programs send no origin.
origin(Req, #{config := Config}) ->
    case cowboy_req:header(<<"origin">>, Req) of
        undefined ->
            {ok, Req};
        Origin ->
            case is_allowed(Origin, erlmcp_shm_transport_config:option(allowed_origins, Config)) of
                true ->
                    {ok, cowboy_req:set_resp_headers(
                        #{
                            <<"access-control-allow-origin">> => Origin,
                            <<"access-control-expose-headers">> => <<"mcp-session-id">>,
                            <<"vary">> => <<"origin">>
                        },
                        Req
                    )};
                false ->
                    {stop, refuse(403, -32600, <<"Origin not allowed">>, Req)}
            end
    end.

is_allowed(Origin, local) ->
    case uri_string:parse(Origin) of
        #{host := Host} -> lists:member(Host, [<<"localhost">>, <<"127.0.0.1">>, <<"::1">>, <<"[::1]">>]);
        _ -> false
    end;
is_allowed(_, any) ->
    true;
is_allowed(Origin, Allowed) ->
    lists:any(fun(local) -> is_allowed(Origin, local); (One) -> iolist_to_binary(One) =:= Origin end, Allowed).

%% @doc What allows whatever one of these `allowed_origins' does.
-spec either([local | any | [iodata()]]) -> local | any | [iodata() | local].
either(Several) ->
    case lists:usort(Several) of
        [One] -> One;
        All -> either_of(lists:member(any, All), All)
    end.

either_of(true, _) -> any;
either_of(false, All) -> lists:append([if One =:= local -> [local]; true -> One end || One <- All]).

%% What a browser asks before it sends what the page wants, without the token.
preflight(#{method := <<"OPTIONS">>} = Req, _) ->
    case cowboy_req:header(<<"access-control-request-method">>, Req) of
        undefined ->
            {ok, Req};
        _ ->
            Headers = #{
                <<"access-control-allow-methods">> => <<"GET, POST, DELETE">>,
                <<"access-control-allow-headers">> => cowboy_req:header(<<"access-control-request-headers">>, Req, <<>>)
            },
            {stop, cowboy_req:reply(204, Headers, Req)}
    end;
preflight(Req, _) ->
    {ok, Req}.

%% Hashes are compared, and in constant time: how long it takes tells nothing of the token, its length included.
token(Req, #{tokens := []}) ->
    {ok, Req};
token(Req, #{tokens := Tokens}) ->
    Given =
        case cowboy_req:header(<<"authorization">>, Req) of
            <<Scheme:7/binary, Credentials/binary>> ->
                case string:lowercase(Scheme) of
                    <<"bearer ">> -> Credentials;
                    _ -> <<>>
                end;
            _ ->
                <<>>
        end,
    Hash = crypto:hash(sha256, string:trim(Given)),
    case [Token || Token <- Tokens, crypto:hash_equals(Hash, crypto:hash(sha256, Token))] of
        [_ | _] ->
            {ok, Req};
        [] ->
            Asking = cowboy_req:set_resp_header(<<"www-authenticate">>, <<"Bearer">>, Req),
            {stop, refuse(401, -32600, <<"Unauthorized">>, Asking)}
    end.

%% As far as a probe goes: it is nobody's request, and counts for none.
options(#{method := <<"OPTIONS">>} = Req, _) ->
    {stop, cowboy_req:reply(204, #{<<"allow">> => <<"GET, POST, DELETE, OPTIONS">>}, Req)};
options(Req, _) ->
    {ok, Req}.

rate(Req, Route) ->
    case erlmcp_shm_net:within_rate(Req, Route) of
        true ->
            {ok, Req};
        false ->
            Later = cowboy_req:set_resp_header(<<"retry-after">>, <<"1">>, Req),
            {stop, refuse(429, -32600, <<"Too many requests">>, Later)}
    end.

%% @doc An HTTP error with a JSON-RPC error in its body, which belongs to no request.
-spec refuse(cowboy:http_status(), integer(), binary(), cowboy_req:req()) -> cowboy_req:req().
refuse(Status, Code, Message, Req) ->
    {ok, Json} = erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, error => #{code => Code, message => Message}}),
    cowboy_req:reply(Status, #{<<"content-type">> => <<"application/json">>}, Json, Req).
