%% @private
%% Headers that repeat what stands in the body, so that those on the way need not look into it; a server has to see
%% that both say the same.
-module(erlmcp_shm_http_headers).

-export([version/1, check/2]).

-include("erlmcp_shm_endpoint.hrl").

-define(NAMED, #{<<"tools/call">> => <<"name">>, <<"prompts/get">> => <<"name">>, <<"resources/read">> => <<"uri">>}).

%% @doc The protocol version of a message in whose body none is named.
-spec version(cowboy_req:req()) -> binary() | undefined.
version(Req) ->
    cowboy_req:header(<<"mcp-protocol-version">>, Req).

%% @doc For a message of a revision that has such headers; others have none to check.
-spec check(map(), cowboy_req:req()) -> ok | {error, binary()}.
check(#{<<"method">> := Method, <<"id">> := _, <<"params">> := #{<<"_meta">> := #{?META_VERSION := Version}} = Params}, Req) when
    is_binary(Version)
->
    case lists:member(Version, ?LEGACY) of
        true ->
            ok;
        false ->
            Checks = [
                fun() -> same(<<"mcp-protocol-version">>, Version, Req) end,
                fun() -> same(<<"mcp-method">>, Method, Req) end,
                fun() -> name(Method, Params, Req) end,
                fun() -> parameters(Method, Params, Req) end
            ],
            all(Checks)
    end;
check(_, _) ->
    ok.

all([]) ->
    ok;
all([Check | Checks]) ->
    case Check() of
        ok -> all(Checks);
        {error, _} = Error -> Error
    end.

name(Method, Params, Req) ->
    case ?NAMED of
        #{Method := Key} ->
            case Params of
                #{Key := Name} when is_binary(Name) -> same(<<"mcp-name">>, Name, Req);
                _ -> ok
            end;
        _ ->
            ok
    end.

%% Parameters of a tool that its schema wants repeated: `x-mcp-header' in a property.
parameters(<<"tools/call">>, #{<<"name">> := Name} = Params, Req) when is_binary(Name) ->
    case erlmcp_shm_exporter:lookup(tool, Name) of
        {ok, Json, _} ->
            case binary:match(Json, <<"x-mcp-header">>) of
                nomatch ->
                    ok;
                _ ->
                    {ok, Schema} = erlmcp_shm_json:decode(Json),
                    all([fun() -> parameter(Header, Value, Req) end || {Header, Value} <- repeated(Schema, arguments(Params))])
            end;
        {error, _} ->
            ok
    end;
parameters(_, _, _) ->
    ok.

arguments(#{<<"arguments">> := #{} = Arguments}) -> Arguments;
arguments(_) -> #{}.

repeated(#{<<"properties">> := #{} = Properties}, Arguments) ->
    lists:append([repeated(Key, Schema, Arguments) || {Key, Schema} <- maps:to_list(Properties)]);
repeated(_, _) ->
    [].

repeated(Key, Schema, Arguments) ->
    Value = maps:get(Key, Arguments, null),
    case Schema of
        #{<<"x-mcp-header">> := Header} when is_binary(Header) ->
            [{<<"mcp-param-", (string:lowercase(Header))/binary>>, Value}];
        #{} when is_map(Value) ->
            repeated(Schema, Value);
        _ ->
            []
    end.

parameter(_, null, _) -> ok;
parameter(Header, true, Req) -> same(Header, <<"true">>, Req);
parameter(Header, false, Req) -> same(Header, <<"false">>, Req);
parameter(Header, Number, Req) when is_number(Number) -> same_number(Header, Number, Req);
parameter(Header, Text, Req) when is_binary(Text) -> same(Header, Text, Req);
parameter(_, _, _) -> ok.

same(Header, Value, Req) ->
    compare(Header, Req, fun(Given) -> Given =:= Value end).

same_number(Header, Number, Req) ->
    compare(Header, Req, fun(Given) -> is_equal(Given, Number) end).

is_equal(Given, Number) ->
    case erlmcp_shm_json:decode(Given) of
        {ok, Other} when is_number(Other) -> Other == Number;
        _ -> false
    end.

compare(Header, Req, IsSame) ->
    case cowboy_req:header(Header, Req) of
        undefined ->
            {error, <<"Header mismatch: ", Header/binary, " is missing">>};
        Given ->
            case IsSame(plain(Given)) of
                true -> ok;
                false -> {error, <<"Header mismatch: ", Header/binary, " is not what the body says">>}
            end
    end.

%% What a header cannot say as it is comes in base64.
plain(<<"=?base64?", Rest/binary>> = Given) ->
    Size = byte_size(Rest) - 2,
    case Rest of
        <<Encoded:Size/binary, "?=">> ->
            try
                base64:decode(Encoded)
            catch
                error:_ -> Given
            end;
        _ ->
            Given
    end;
plain(Given) ->
    Given.
