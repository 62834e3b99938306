%% @private
%% The methods of MCP, each as what it answers: a result, an error, or a call of the handler and what to make of its
%% reply.
-module(erlmcp_shm_methods).

-export([call/5]).

-include("erlmcp_shm_endpoint.hrl").

-type id() :: binary() | integer().
-type rpc_error() :: {integer(), binary()} | {integer(), binary(), map()}.
-type answer() :: {ok, map()} | {error, rpc_error()}.

-spec call(Method :: binary(), Params :: map(), Era :: modern | legacy, id(), #session{}) ->
    answer()
    | {ok, map(), #session{}}
    | {events, [erlmcp_shm_endpoint:event()], #session{}}
    | {call, erlmcp_shm_handler:request(), fun((erlmcp_shm_handler:reply()) -> answer())}.
%%% Lists

call(<<"resources/list">>, Params, _, _, S) ->
    list(resource, Params, S);
call(<<"tools/list">>, Params, _, _, S) ->
    list(tool, Params, S);
call(<<"prompts/list">>, Params, _, _, S) ->
    list(prompt, Params, S);
call(<<"resources/templates/list">>, _, _, _, _) ->
    {call, list_resource_templates, fun
        ({ok, Templates}) when is_list(Templates) -> {ok, templates(Templates)};
        ({ok, #{} = Result}) -> {ok, hinted(Result)};
        ({error, not_found}) -> {ok, templates([])};
        (Other) -> failed(Other)
    end};
%%% Reads

call(<<"resources/read">>, #{<<"uri">> := Uri}, Era, _, _) when is_binary(Uri) ->
    case erlmcp_shm_mcp:read(Uri) of
        {ok, Result} ->
            {ok, Result};
        {error, not_found} ->
            {call, {read_resource, Uri}, fun
                ({ok, Data}) when is_binary(Data) -> {ok, erlmcp_shm_mcp:resource(Uri, Data)};
                ({ok, #{} = Result}) -> {ok, hinted(Result)};
                ({error, not_found}) -> {error, no_resource(Era, Uri)};
                (Other) -> failed(Other)
            end};
        {error, _} ->
            {error, internal()}
    end;
call(<<"prompts/get">>, #{<<"name">> := Name} = Params, _, _, _) when is_binary(Name) ->
    case arguments(Params) of
        {ok, Given} ->
            case lists:all(fun is_binary/1, maps:values(Given)) andalso erlmcp_shm_mcp:prompt(Name, Given) of
                {ok, Result} ->
                    {ok, Result};
                {error, not_found} ->
                    {call, {get_prompt, Name, Given}, fun
                        ({ok, #{} = Result}) -> {ok, Result};
                        ({error, not_found}) -> {error, invalid(<<"Unknown prompt: ", Name/binary>>)};
                        (Other) -> failed(Other)
                    end};
                {error, {missing_argument, Missing}} ->
                    {error, invalid(<<"Missing required argument: ", Missing/binary>>)};
                {error, _} ->
                    {error, internal()};
                false ->
                    {error, invalid(<<"Invalid params: arguments are strings">>)}
            end;
        error ->
            {error, invalid(<<"Invalid params: arguments">>)}
    end;
%%% Calls

call(<<"tools/call">>, #{<<"name">> := Name} = Params, _, _, _) when is_binary(Name) ->
    case arguments(Params) of
        {ok, Given} ->
            {call, {call_tool, Name, Given}, fun
                ({ok, Text}) when is_binary(Text) -> {ok, #{content => [text(Text)], isError => false}};
                ({ok, #{} = Result}) -> {ok, Result};
                ({error, not_found}) -> {error, invalid(<<"Unknown tool: ", Name/binary>>)};
                ({error, Text}) when is_binary(Text) -> {ok, #{content => [text(Text)], isError => true}};
                (Other) -> failed(Other)
            end};
        error ->
            {error, invalid(<<"Invalid params: arguments">>)}
    end;
call(<<"completion/complete">>, #{<<"ref">> := #{} = Ref, <<"argument">> := #{} = Argument} = Params, _, _, _) ->
    Context =
        case Params of
            #{<<"context">> := #{} = Map} -> Map;
            _ -> #{}
        end,
    {call, {complete, Ref, Argument, Context}, fun
        ({ok, Values}) when is_list(Values) -> {ok, completion(Values)};
        ({ok, #{} = Result}) -> {ok, Result};
        ({error, not_found}) -> {ok, completion([])};
        (Other) -> failed(Other)
    end};
%%% The server, and what it tells by itself

call(<<"server/discover">>, _, modern, _, _) ->
    {ok,
        instructed(
            hinted(#{
                supportedVersions => [?MODERN | ?LEGACY],
                capabilities => erlmcp_shm_mcp:capabilities()
            })
        )};
call(<<"subscriptions/listen">>, #{<<"notifications">> := #{} = Filter}, modern, Id, S) ->
    case erlmcp_shm_listen:listen(Id, Filter, S) of
        {ok, Events, New} -> {events, Events, New};
        {error, Why} -> {error, invalid(Why)}
    end;
call(<<"initialize">>, Params, legacy, _, S) ->
    Version =
        case Params of
            #{<<"protocolVersion">> := Asked} ->
                case lists:member(Asked, ?LEGACY) of
                    true -> Asked;
                    false -> hd(?LEGACY)
                end;
            _ ->
                hd(?LEGACY)
        end,
    Result = #{
        protocolVersion => Version,
        capabilities => erlmcp_shm_mcp:capabilities(),
        serverInfo => erlmcp_shm_mcp:server_info()
    },
    Capabilities =
        case Params of
            #{<<"capabilities">> := #{} = Map} -> Map;
            _ -> #{}
        end,
    {ok, instructed(Result), erlmcp_shm_listen:lists(S#session{version = Version, capabilities = Capabilities})};
call(<<"ping">>, _, legacy, _, _) ->
    {ok, #{}};
call(<<"logging/setLevel">>, #{<<"level">> := Level}, legacy, _, S) ->
    case lists:member(Level, ?LEVELS) of
        true -> {ok, #{}, S#session{level = Level}};
        false -> {error, invalid(<<"Invalid params: level">>)}
    end;
call(<<"resources/subscribe">>, #{<<"uri">> := Uri}, legacy, _, S) when is_binary(Uri) ->
    case erlmcp_shm_listen:subscribe(Uri, S) of
        {ok, New} -> {ok, #{}, New};
        {error, Why} -> {error, invalid(Why)}
    end;
call(<<"resources/unsubscribe">>, #{<<"uri">> := Uri}, legacy, _, S) when is_binary(Uri) ->
    {ok, #{}, erlmcp_shm_listen:unsubscribe(Uri, S)};
call(Method, _, Era, _, _) ->
    case lists:member(Method, methods(Era)) of
        true -> {error, invalid(<<"Invalid params">>)};
        false -> {error, {-32601, <<"Method not found: ", Method/binary>>}}
    end.

%% Those that have parameters they cannot do without.
methods(modern) ->
    [<<"resources/read">>, <<"prompts/get">>, <<"tools/call">>, <<"completion/complete">>, <<"subscriptions/listen">>];
methods(legacy) ->
    [
        <<"resources/read">>,
        <<"prompts/get">>,
        <<"tools/call">>,
        <<"completion/complete">>,
        <<"logging/setLevel">>,
        <<"resources/subscribe">>,
        <<"resources/unsubscribe">>
    ].

%%% Results

list(Kind, Params, #session{page_size = Size}) ->
    case erlmcp_shm_mcp:list(Kind, maps:get(<<"cursor">>, Params, undefined), Size) of
        {ok, Result} -> {ok, Result};
        {error, bad_cursor} -> {error, invalid(<<"Invalid params: cursor">>)};
        {error, _} -> {error, internal()}
    end.

templates(Templates) ->
    hinted(#{resourceTemplates => Templates}).

completion(Values) ->
    First = lists:sublist(Values, 100),
    #{completion => #{values => First, total => length(Values), hasMore => length(Values) > length(First)}}.

%% Hints for caches, unless the result brings its own, under whatever sort of keys.
hinted(Result) ->
    Given = [Key || Key <- [ttlMs, cacheScope], is_map_key(atom_to_binary(Key), Result)],
    maps:merge(maps:without(Given, erlmcp_shm_mcp:hints(#{})), Result).

instructed(Result) ->
    case erlmcp_shm_mcp:instructions() of
        undefined -> Result;
        Instructions -> Result#{instructions => Instructions}
    end.

text(Text) ->
    #{type => <<"text">>, text => Text}.

arguments(Params) ->
    case Params of
        #{<<"arguments">> := #{} = Arguments} -> {ok, Arguments};
        #{<<"arguments">> := _} -> error;
        _ -> {ok, #{}}
    end.

%%% Errors

failed({error, {Code, Message}}) when is_integer(Code), is_binary(Message) -> {error, {Code, Message}};
failed({error, Message}) when is_binary(Message) -> {error, {-32603, Message}};
failed(_) -> {error, internal()}.

internal() ->
    {-32603, <<"Internal error">>}.

invalid(Why) ->
    {-32602, Why}.

%% Until 2025-11-25 this had a code of its own.
no_resource(legacy, Uri) -> {-32002, <<"Resource not found">>, #{uri => Uri}};
no_resource(modern, Uri) -> {-32602, <<"Resource not found">>, #{uri => Uri}}.
