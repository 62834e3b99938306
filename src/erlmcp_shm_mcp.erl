%% @private
%% What is published, as MCP shows it: entries of the store become resources, tools and prompts.
%%
%% Every function answers `{ok, Result}' with the fields of the result that a list or a read has, hints for caches
%% included, or `{error, not_found | bad_cursor | {missing_argument, Name} | term()}'.
-module(erlmcp_shm_mcp).

-export([list/3, read/1, resource/2, prompt/2, server_info/0, instructions/0, capabilities/0, hints/1]).

-type result() :: {ok, map()} | {error, term()}.

-define(TTL_MS, 10000).

%% Metadata keys that mean something here; the rest travels under `_meta'.
-define(MEANT, [
    <<"name">>,
    <<"title">>,
    <<"description">>,
    <<"mime_type">>,
    <<"mimeType">>,
    <<"annotations">>,
    <<"icons">>,
    <<"output_schema">>,
    <<"outputSchema">>,
    <<"ttl_ms">>,
    <<"ttlMs">>,
    <<"cache_scope">>,
    <<"cacheScope">>
]).

%%% Lists

%% @doc A page of a list, in the order of keys. A cursor is the key before the page, so it stays good whatever is
%% published or withdrawn between two pages.
-spec list(resource | tool | prompt, Cursor :: binary() | undefined, Size :: pos_integer()) -> result().
list(Kind, Cursor, Size) ->
    case after_key(Cursor) of
        {ok, After} ->
            case page(Kind, After, Size) of
                {ok, {Entries, More}} ->
                    Items = [item(Kind, Key, Data, metadata(Meta)) || {Key, Data, Meta} <- Entries, is_text(Key)],
                    {ok, next(More, Entries, (hints(#{}))#{list_name(Kind) => Items})};
                {error, _} = Error ->
                    Error
            end;
        error ->
            {error, bad_cursor}
    end.

list_name(resource) -> resources;
list_name(tool) -> tools;
list_name(prompt) -> prompts.

after_key(undefined) ->
    {ok, <<>>};
after_key(Cursor) when is_binary(Cursor) ->
    try
        {ok, base64:decode(Cursor)}
    catch
        error:_ -> error
    end;
after_key(_) ->
    error.

next(true, [_ | _] = Entries, Result) ->
    {Last, _, _} = lists:last(Entries),
    Result#{nextCursor => base64:encode(Last)};
next(_, _, Result) ->
    Result.

%% Where there is no exporter, or no file yet that it could read, nothing is published.
page(Kind, After, Size) ->
    case erlmcp_shm_store:list(Kind, After, Size) of
        {ok, _} = Ok -> Ok;
        {error, Nothing} when Nothing =:= not_started; Nothing =:= not_found -> {ok, {[], false}};
        {error, _} = Error -> Error
    end.

item(resource, Uri, _, Meta) ->
    (described(Meta, [name, mime_type, annotations]))#{uri => Uri, name => maps:get(<<"name">>, Meta, last_part(Uri))};
item(tool, Name, Schema, Meta) ->
    (described(Meta, [output_schema, annotations]))#{name => Name, inputSchema => {json, Schema}};
item(prompt, Name, Prompt, Meta) ->
    Item = (described(Meta, []))#{name => Name},
    case erlmcp_shm_json:decode(Prompt) of
        {ok, #{<<"arguments">> := Arguments}} when is_list(Arguments) -> Item#{arguments => Arguments};
        _ -> Item
    end.

%% The fields that an item has from its metadata.
described(Meta, More) ->
    Fields = [{Name, field(Name, Meta)} || Name <- [title, description, icons | More]],
    Item = maps:from_list([{mcp_name(Name), Value} || {Name, Value} <- Fields, Value =/= undefined]),
    case maps:without(?MEANT, Meta) of
        Rest when map_size(Rest) =:= 0 -> Item;
        Rest -> Item#{'_meta' => Rest}
    end.

field(Name, Meta) ->
    maps:get(atom_to_binary(mcp_name(Name)), Meta, maps:get(atom_to_binary(Name), Meta, undefined)).

mcp_name(mime_type) -> mimeType;
mcp_name(output_schema) -> outputSchema;
mcp_name(ttl_ms) -> ttlMs;
mcp_name(cache_scope) -> cacheScope;
mcp_name(Name) -> Name.

%% A resource without a name is called by the last part of its URI.
last_part(Uri) ->
    case [Part || Part <- binary:split(Uri, <<"/">>, [global]), Part =/= <<>>] of
        [] -> Uri;
        Parts -> lists:last(Parts)
    end.

%% What a client may keep of a result, and for whom.
-spec hints(Meta :: map()) -> map().
hints(Meta) ->
    #{
        ttlMs =>
            case field(ttl_ms, Meta) of
                Ms when is_integer(Ms) -> Ms;
                _ -> ?TTL_MS
            end,
        cacheScope =>
            case field(cache_scope, Meta) of
                <<"private">> -> <<"private">>;
                _ -> <<"public">>
            end
    }.

%%% Resources

%% @doc What is published under a URI is what it holds now, also once its `ttl_ms' has passed: that tells others how
%% long they may keep it.
-spec read(Uri :: binary()) -> result().
read(Uri) ->
    case erlmcp_shm_exporter:lookup(resource, Uri) of
        {ok, Data, #{metadata := Metadata}} ->
            Meta = metadata(Metadata),
            {ok, (hints(Meta))#{contents => [contents(Uri, Data, Meta)]}};
        {error, not_started} ->
            {error, not_found};
        {error, _} = Error ->
            Error
    end.

%% @doc The same, of content that was not published.
-spec resource(Uri :: binary(), Data :: binary()) -> map().
resource(Uri, Data) ->
    (hints(#{}))#{contents => [contents(Uri, Data, #{})]}.

contents(Uri, Data, Meta) ->
    Type = field(mime_type, Meta),
    Content =
        case is_textual(Type) andalso is_text(Data) of
            true -> #{uri => Uri, text => Data};
            false -> #{uri => Uri, blob => base64:encode(Data)}
        end,
    Typed =
        case is_binary(Type) of
            true -> Content#{mimeType => Type};
            false -> Content
        end,
    case maps:without(?MEANT, Meta) of
        Rest when map_size(Rest) =:= 0 -> Typed;
        Rest -> Typed#{'_meta' => Rest}
    end.

%% Whether bytes of that type may be text; those of unknown type may.
is_textual(Type) when is_binary(Type) ->
    [Essence | _] = binary:split(string:lowercase(Type), <<";">>),
    case string:trim(Essence) of
        <<"text/", _/binary>> -> true;
        <<"application/json">> -> true;
        <<"application/xml">> -> true;
        Other -> lists:any(fun(Suffix) -> has_suffix(Other, Suffix) end, [<<"+json">>, <<"+xml">>])
    end;
is_textual(_) ->
    true.

has_suffix(Text, Suffix) ->
    Start = byte_size(Text) - byte_size(Suffix),
    Start >= 0 andalso binary:part(Text, Start, byte_size(Suffix)) =:= Suffix.

is_text(Bytes) ->
    is_binary(unicode:characters_to_binary(Bytes)).

%%% Prompts

%% @doc A prompt, with `{{argument}}' replaced in the text of its messages. One that was published without any is made by
%% whoever serves it: here it is only listed.
-spec prompt(Name :: binary(), Given :: map()) -> result().
prompt(Name, Given) ->
    case erlmcp_shm_exporter:lookup(prompt, Name) of
        {ok, Data, #{metadata := Metadata}} ->
            {ok, Prompt} = erlmcp_shm_json:decode(Data),
            Arguments = [A || #{<<"name">> := _} = A <- lists_of(<<"arguments">>, Prompt)],
            case [N || #{<<"name">> := N, <<"required">> := true} <- Arguments, not is_map_key(N, Given)] of
                [] when not is_map_key(<<"messages">>, Prompt) ->
                    {error, not_found};
                [] ->
                    %% An optional argument that is not given is empty.
                    Known = maps:merge(maps:from_list([{N, <<>>} || #{<<"name">> := N} <- Arguments]), Given),
                    Messages = [filled(M, Known) || M <- lists_of(<<"messages">>, Prompt)],
                    Described = maps:with([description], described(metadata(Metadata), [])),
                    {ok, Described#{messages => Messages}};
                [Missing | _] ->
                    {error, {missing_argument, Missing}}
            end;
        {error, not_started} ->
            {error, not_found};
        {error, _} = Error ->
            Error
    end.

lists_of(Key, Map) ->
    case Map of
        #{Key := List} when is_list(List) -> List;
        _ -> []
    end.

%% Replaces in `text' wherever it stands in a message.
filled(#{} = Map, Known) ->
    maps:map(
        fun
            (<<"text">>, Text) when is_binary(Text) -> replaced(Text, Known);
            (_, Value) -> filled(Value, Known)
        end,
        Map
    );
filled(List, Known) when is_list(List) ->
    [filled(Item, Known) || Item <- List];
filled(Other, _) ->
    Other.

%% In one pass: what an argument brings along is not looked into.
replaced(Text, Known) ->
    iolist_to_binary(replace(binary:split(Text, <<"{{">>), Known)).

replace([Text], _) ->
    [Text];
replace([Before, Rest], Known) ->
    case binary:split(Rest, <<"}}">>) of
        [Name, After] ->
            case Known of
                #{Name := Value} ->
                    [Before, Value | replace(binary:split(After, <<"{{">>), Known)];
                _ ->
                    [Before, <<"{{">> | replace(binary:split(Rest, <<"{{">>), Known)]
            end;
        [_] ->
            [Before, <<"{{">>, Rest]
    end.

%%% The server

%% @doc Who we say we are.
-spec server_info() -> map() | {json, binary()}.
server_info() ->
    case capability(<<"server_info">>) of
        {ok, Json} -> {json, Json};
        {error, _} -> #{name => <<"erlmcp_shm">>, version => version()}
    end.

version() ->
    case application:get_key(erlmcp_shm, vsn) of
        {ok, Vsn} -> list_to_binary(Vsn);
        undefined -> <<"0">>
    end.

%% @doc What a model should know of this server.
-spec instructions() -> {json, binary()} | undefined.
instructions() ->
    case capability(<<"instructions">>) of
        {ok, <<"\"", _/binary>> = Json} -> {json, Json};
        _ -> undefined
    end.

%% @doc What this server can do: what the endpoint does, and what else was published as a capability.
-spec capabilities() -> map().
capabilities() ->
    Listed = #{listChanged => true},
    Ours = #{
        <<"resources">> => Listed#{subscribe => true},
        <<"tools">> => Listed,
        <<"prompts">> => Listed,
        <<"completions">> => #{},
        <<"logging">> => #{}
    },
    {ok, {Entries, _}} = known(page(capability, <<>>, 1000)),
    Others = [{Key, {json, Data}} || {Key, Data, _} <- Entries, is_text(Key)],
    maps:without([<<"server_info">>, <<"instructions">>], maps:merge(Ours, maps:from_list(Others))).

known({ok, _} = Ok) -> Ok;
known({error, _}) -> {ok, {[], false}}.

capability(Name) ->
    case erlmcp_shm_exporter:lookup(capability, Name) of
        {ok, Json, _} -> {ok, Json};
        {error, _} = Error -> Error
    end.

metadata(Json) ->
    case erlmcp_shm_json:decode(Json) of
        {ok, #{} = Map} -> Map;
        _ -> #{}
    end.
