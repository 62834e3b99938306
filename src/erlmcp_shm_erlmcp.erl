%% @private
%% What there is to know of an erlmcp server from outside: where it is, what it has, and what that is in MCP.
%%
%% Nothing of erlmcp is needed to compile this. A server is a gen_server whose state is a record `state'; in it are
%% maps from a name to a tuple, whose place differs between the versions, and whose tuples do not:
%%
%% ```
%% resources    #{Uri  => {#mcp_resource{}, Handler}}             of erlmcp_server
%% tools        #{Name => {#mcp_tool{}, Handler, Schema}}
%% prompts      #{Name => {#mcp_prompt{}, Handler}}
%% tools, resources, prompts, in this order, first in the record   of erlmcp_stdio_server
%%              #{Name => {Description, Handler, Schema | MimeType | Arguments}}
%% '''
%%
%% The records have grown at their ends, so fields are read by their position from the front.
-module(erlmcp_shm_erlmcp).

-export([find/1, servers/0, listing/1, entry/3, export/2, content/2, content_type/1]).

-export_type([target/0, kind/0, item/0, entry/0, listing/0]).

-type target() :: pid() | atom() | binary().
-type kind() :: resource | tool | prompt.
-type item() :: {kind(), Key :: binary()}.

-type entry() :: tuple().
%% As it stands in the server's state, save that tools and prompts come without their functions.

-type listing() :: #{item() => entry()}.

%%% Where

%% @doc By erlmcp's registry, or else by the name of a process. May wait for the registry.
-spec find(target()) -> {ok, pid()} | error.
find(Pid) when is_pid(Pid) ->
    {ok, Pid};
find(Id) ->
    case registry(find_server, [Id]) of
        {ok, {Pid, _}} when is_pid(Pid), node(Pid) =:= node() -> {ok, Pid};
        _ when is_atom(Id) -> registered(Id);
        _ -> error
    end.

registered(Name) ->
    case whereis(Name) of
        Pid when is_pid(Pid) -> {ok, Pid};
        _ -> error
    end.

%% @doc What the registry knows.
-spec servers() -> [target()].
servers() ->
    case registry(list_servers, []) of
        Servers when is_list(Servers) -> [Id || {Id, {Pid, _}} <- Servers, is_pid(Pid), is_atom(Id) orelse is_binary(Id)];
        _ -> []
    end.

registry(Function, Arguments) ->
    registry(erlmcp_registry, Function, Arguments).

%% The module is an argument lest anybody think that it must be there.
registry(Module, Function, Arguments) ->
    try
        apply(Module, Function, Arguments)
    catch
        _:_ -> error
    end.

%%% What it has

%% @doc Everything, as the state of the server shows it. A state that looks like none that we know lists nothing, and
%% that must not be taken for a server that has nothing.
-spec listing(term()) -> {ok, listing()} | {error, unknown_state}.
listing(State) when is_tuple(State), tuple_size(State) > 5, element(1, State) =:= state ->
    Maps = maps(State),
    case length(Maps) >= 3 of
        true ->
            Items = [{{kind(At, Value), Key}, Value} || {At, Map} <- Maps, {Key, Value} <- maps:to_list(Map), is_binary(Key)],
            {ok, maps:from_list([{Item, shown(Kind, Value)} || {{Kind, _} = Item, Value} <- Items, Kind =/= none])};
        false ->
            {error, unknown_state}
    end;
listing(_) ->
    {error, unknown_state}.

%% @doc One of them. Called in the server's own process: it looks into no map but under that name.
-spec entry(kind(), Key :: binary(), State :: term()) -> entry() | absent.
entry(Kind, Key, State) when is_tuple(State) ->
    entry(Kind, Key, State, tuple_size(State));
entry(_, _, _) ->
    absent.

entry(_Kind, _Key, _State, 0) ->
    absent;
entry(Kind, Key, State, At) ->
    case element(At, State) of
        #{Key := Value} ->
            case kind(At, Value) of
                Kind -> shown(Kind, Value);
                _ -> entry(Kind, Key, State, At - 1)
            end;
        _ ->
            entry(Kind, Key, State, At - 1)
    end.

maps(State) ->
    [{At, Map} || {At, Map} <- lists:enumerate(tuple_to_list(State)), is_map(Map)].

kind(_, Value) when is_tuple(Value), tuple_size(Value) >= 2, is_tuple(element(1, Value)) ->
    case element(1, element(1, Value)) of
        mcp_resource -> resource;
        mcp_tool -> tool;
        mcp_prompt -> prompt;
        _ -> none
    end;
kind(At, {Description, Handler, _}) when is_binary(Description), is_function(Handler) ->
    case At of
        2 -> tool;
        3 -> resource;
        4 -> prompt;
        _ -> none
    end;
kind(_, _) ->
    none.

shown(resource, Value) -> Value;
shown(_, Value) when is_function(element(2, Value)) -> setelement(2, Value, function);
shown(_, Value) -> Value.

%%% What that is in MCP

%% @doc What is published of it: data and metadata, where the data of a resource are yet to be had.
-spec export(kind(), entry()) -> {map(), Metadata :: map()}.
export(resource, {Description, _, Type}) when is_binary(Description) ->
    {#{}, given(#{description => Description, mime_type => Type})};
export(resource, Entry) ->
    Record = element(1, Entry),
    Named = given(#{
        name => field(3, Record), description => field(4, Record), mime_type => field(5, Record), annotations => field(10, Record)
    }),
    {#{}, merged(field(6, Record), Named)};
export(tool, {Description, _, Schema}) when is_binary(Description) ->
    {schema(Schema), given(#{description => Description})};
export(tool, Entry) ->
    Record = element(1, Entry),
    {schema(field(4, Record)), merged(field(5, Record), given(#{description => field(3, Record)}))};
export(prompt, {Description, _, Arguments}) when is_binary(Description) ->
    {prompt(Arguments, function), given(#{description => Description})};
export(prompt, Entry) ->
    Record = element(1, Entry),
    {prompt(field(4, Record), element(2, Entry)), given(#{description => field(3, Record)})}.

field(At, Record) when tuple_size(Record) >= At -> element(At, Record);
field(_, _) -> undefined.

given(Map) ->
    maps:from_list([{atom_to_binary(Key), json(Value)} || {Key, Value} <- maps:to_list(Map), Value =/= undefined]).

%% What a server says besides, under what we know ourselves.
merged(#{} = More, Map) -> maps:merge(json(More), Map);
merged(_, Map) -> Map.

%% MCP wants one; a tool that has said nothing takes anything.
schema(undefined) -> #{<<"type">> => <<"object">>};
schema(Schema) -> json(Schema).

%% What a function makes of the arguments only the server can say: without messages, a prompt is one that it has to
%% be asked for.
prompt(Arguments, Messages) ->
    Listed =
        case Arguments of
            undefined -> #{};
            _ -> #{<<"arguments">> => [argument(Argument) || Argument <- Arguments]}
        end,
    case Messages of
        function -> Listed;
        Text when is_binary(Text) -> Listed#{<<"messages">> => [message(Text)]};
        _ -> Listed#{<<"messages">> => json(Messages)}
    end.

argument(Argument) when is_tuple(Argument), element(1, Argument) =:= mcp_prompt_argument ->
    given(#{name => field(2, Argument), description => field(3, Argument), required => field(4, Argument)});
argument(Argument) ->
    json(Argument).

message(Text) ->
    #{<<"role">> => <<"user">>, <<"content">> => #{<<"type">> => <<"text">>, <<"text">> => Text}}.

%% Terms as erlmcp would write them: there, any atom may stand for a string, and pairs for an object.
json(Atom) when is_atom(Atom), Atom =/= true, Atom =/= false, Atom =/= null, Atom =/= nil ->
    atom_to_binary(Atom);
json(#{} = Map) ->
    maps:from_list([{name(Key), json(Value)} || {Key, Value} <- maps:to_list(Map)]);
json([{}]) ->
    #{};
json([{Key, _} | _] = Pairs) when is_atom(Key); is_binary(Key) ->
    maps:from_list([{name(Name), json(Value)} || {Name, Value} <- Pairs]);
json(List) when is_list(List) ->
    [json(Item) || Item <- List];
json(Other) ->
    Other.

name(Key) when is_atom(Key) -> atom_to_binary(Key);
name(Key) when is_integer(Key) -> integer_to_binary(Key);
name(Key) -> Key.

%%% Contents

%% @doc What a resource holds: its function's answer, or what stands in its place. May take as long as it likes, and
%% fail; gives the type, too, where the answer has one of its own.
-spec content(entry(), Uri :: binary()) -> {ok, binary(), Type :: binary() | undefined} | {error, term()}.
content(Entry, Uri) ->
    case element(2, Entry) of
        Handler when is_function(Handler, 1) -> bytes(Handler(Uri));
        Static -> bytes(Static)
    end.

bytes(Record) when is_tuple(Record), element(1, Record) =:= mcp_content ->
    Type =
        case field(5, Record) of
            Mime when is_binary(Mime) -> Mime;
            _ -> undefined
        end,
    case {field(3, Record), field(4, Record)} of
        {Text, _} when is_binary(Text) -> {ok, Text, Type};
        {_, Data} when is_binary(Data) -> {ok, decoded(Data), Type};
        _ -> {error, {bad_content, Record}}
    end;
bytes(Bytes) ->
    try
        {ok, iolist_to_binary(Bytes), undefined}
    catch
        error:badarg -> {error, {bad_content, Bytes}}
    end.

%% `data' goes into MCP's `blob' as it is, so it should be base64.
decoded(Data) ->
    try
        base64:decode(Data)
    catch
        error:_ -> Data
    end.

%% @doc As metadata.
-spec content_type(binary() | undefined) -> map().
content_type(undefined) -> #{};
content_type(Type) -> #{<<"mime_type">> => Type}.
