%% @private
%% Where a transport listens, by its configuration, and whether it answers there.
-module(erlmcp_shm_probe).

-export([address/2, request/3]).

%% @doc The address to listen on. `url' stands for host, port and path at once.
-spec address(erlmcp_shm_transport:type(), map()) -> {ok, erlmcp_shm_listener:address()} | {error, term()}.
address(Type, Config) ->
    case parts(Type, Config) of
        {ok, Host, Port, Path} ->
            case ip(Host) of
                {ok, Ip} -> {ok, tls(Config, #{ip => Ip, port => Port, path => Path})};
                {error, Reason} -> {error, {host, Host, Reason}}
            end;
        {error, _} = Error ->
            Error
    end.

parts(Type, #{url := Url} = Config) ->
    case uri_string:parse(unicode:characters_to_binary(Url)) of
        #{scheme := Scheme, host := Host} = Parsed ->
            Standard =
                case Scheme of
                    <<"https">> -> 443;
                    _ -> 80
                end,
            Path =
                case Parsed of
                    #{path := <<_, _/binary>> = Given} -> Given;
                    _ -> path(Type)
                end,
            {ok, binary_to_list(Host), maps:get(port, Config, maps:get(port, Parsed, Standard)), Path};
        _ ->
            {error, {url, Url}}
    end;
parts(Type, Config) ->
    Path = unicode:characters_to_binary(maps:get(path, Config, path(Type))),
    {ok, erlmcp_shm_transport_config:option(host, Config), erlmcp_shm_transport_config:option(port, Config), Path}.

path(http) -> <<"/mcp">>;
path(websocket) -> <<"/mcp/ws">>;
path(sse) -> <<"/mcp/sse">>.

%% Nobody but this host gets in through the name that everybody's own host has.
ip(Ip) when is_tuple(Ip) ->
    {ok, Ip};
ip(Host) when is_binary(Host) ->
    ip(binary_to_list(Host));
ip("localhost") ->
    {ok, {127, 0, 0, 1}};
ip(Host) ->
    case inet:getaddr(Host, inet) of
        {ok, _} = Ok -> Ok;
        {error, _} -> inet:getaddr(Host, inet6)
    end.

tls(#{tls := Options}, Address) when is_map(Options), map_size(Options) > 0 -> Address#{tls => maps:to_list(Options)};
tls(#{tls := [_ | _] = Options}, Address) -> Address#{tls => Options};
tls(_, Address) -> Address.

%% @doc One request and its answer, in milliseconds; connecting is not counted.
-spec request(erlmcp_shm_listener:address(), map(), timeout()) -> {ok, float()} | {error, term()}.
request(#{ip := Ip, port := Port, path := Path} = Address, Config, Timeout) ->
    Module =
        case Address of
            #{tls := _} -> ssl;
            _ -> gen_tcp
        end,
    Options = [binary, {active, false}, {packet, line}, {nodelay, true} | unverified(Module)],
    case Module:connect(reachable(Ip), Port, Options, Timeout) of
        {ok, Socket} ->
            Request = [
                <<"OPTIONS ">>, Path, <<" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n">>, authorization(Config), <<"\r\n">>
            ],
            Start = erlang:monotonic_time(),
            Answer =
                case Module:send(Socket, Request) of
                    ok -> Module:recv(Socket, 0, Timeout);
                    {error, _} = Error -> Error
                end,
            Took = erlang:monotonic_time() - Start,
            _ = Module:close(Socket),
            case Answer of
                {ok, <<"HTTP/1.1 204", _/binary>>} -> {ok, Took / erlang:convert_time_unit(1, millisecond, native)};
                {ok, Other} -> {error, {unexpected, Other}};
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% It is this node that is asked, at its own address.
unverified(ssl) -> [{verify, verify_none}];
unverified(gen_tcp) -> [].

reachable({0, 0, 0, 0}) -> {127, 0, 0, 1};
reachable({0, 0, 0, 0, 0, 0, 0, 0}) -> {0, 0, 0, 0, 0, 0, 0, 1};
reachable(Ip) -> Ip.

authorization(#{auth_token := Token}) when Token =/= undefined -> [<<"authorization: Bearer ">>, Token, <<"\r\n">>];
authorization(_) -> [].
