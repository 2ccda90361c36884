from __future__ import annotations
import asyncio,json,math,os,re,resource,select,signal,socket,struct,sys,time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass,field
from typing import Final,NoReturn
from urllib.parse import parse_qs,urlsplit
GAP_CPU_S=.001
GAP_S=.1
SLICE_CPU_S=.02
WORKER_NICENESS=10
MAX_CPU_S=6e1
MAX_HEADER_BYTES=16384
MAX_BODY_BYTES=65536
HEADER_TIMEOUT_S=1e1
IDLE_TIMEOUT_S=75.
PART_TIMEOUT_S=1.
ARRIVE_WITHIN_S=1.
ONE_PRESS_S=.5
BACKLOG=1024
SPARE_FILES=64
SIGNALS=signal.SIGTERM,signal.SIGINT
PATHS='/health','/load','/metrics','/work'
REASONS={200:'OK',400:'Bad Request',404:'Not Found',405:'Method Not Allowed',408:'Request Timeout',411:'Length Required',413:'Content Too Large',431:'Request Header Fields Too Large',503:'Service Unavailable'}
NUMBER=re.compile('(\\d+(\\.\\d*)?|\\.\\d+)([eE][-+]?\\d{1,3})?',re.ASCII)
ORDER=struct.Struct('dd')
COST=struct.Struct('d')
class SettingsError(Exception):0
@dataclass(frozen=True,slots=True,kw_only=True)
class Settings:address:str='0.0.0.0';port:int=8080;load_s:float=1e1;workers:int=1;drain_s:float=.0;finish_s:float=3e1
def read_settings(environ):
	D=environ;B=[]
	def A(name,default,low,high,*,whole):
		F=whole;E=default;C=D.get(name,'').strip();A=parse_number(C)if C else E
		if A is None or not low<=A<=high or F and A%1:G='whole number'if F else'number';B.append(f"  {name}  must be a {G} from {low:g} to {high:g}, got: {C!r}");return E
		return A
	C=Settings(address=D.get('LISTEN_ADDRESS','').strip()or'0.0.0.0',port=int(A('LISTEN_PORT',8080,1,65535,whole=True)),load_s=A('LOAD_SECONDS',10,0,3600,whole=False),workers=int(A('LOAD_WORKERS',len(os.sched_getaffinity(0)),1,1024,whole=True)),drain_s=A('DRAIN_SECONDS',0,0,3600,whole=False),finish_s=A('FINISH_SECONDS',30,0,3600,whole=False))
	if B:raise SettingsError('\n'.join([f"error: {len(B)} settings are wrong",*B]))
	return C
def parse_number(text):
	if not NUMBER.fullmatch(text):return
	A=float(text);return A if math.isfinite(A)else None
def burn(cpu_s):
	A=time.thread_time();B=A+cpu_s
	while(C:=time.thread_time())<B:
		for D in range(500):0
	return C-A
def run_worker(link):
	A=link
	try:
		signal.set_wakeup_fd(-1)
		for C in SIGNALS:signal.signal(C,signal.SIG_IGN)
		os.closerange(3,A.fileno());os.closerange(A.fileno()+1,resource.getrlimit(resource.RLIMIT_NOFILE)[0]);os.nice(WORKER_NICENESS);B=.0
		while len((D:=next_order(A,B)))==ORDER.size:E,F=ORDER.unpack(D);A.send(COST.pack(burn(E)));B=time.monotonic()+F
	finally:os._exit(0)
def next_order(link,burn_until):
	while time.monotonic()<burn_until:
		try:return link.recv(ORDER.size,socket.MSG_DONTWAIT)
		except BlockingIOError:burn(GAP_CPU_S)
	return link.recv(ORDER.size)
@dataclass(slots=True,eq=False)
class Job:
	done:asyncio.Future[None];left_cpu_s:float=math.inf;until:float=math.inf
	def finished(A,now):return A.done.done()or A.left_cpu_s<=0 or now>=A.until
@dataclass(slots=True,eq=False)
class Worker:pid:int;link:socket.socket;job:Job|None=None
@dataclass(slots=True)
class Pool:
	size:int;loop:asyncio.AbstractEventLoop;queue:deque[Job]=field(default_factory=deque);workers:list[Worker]=field(default_factory=list)
	async def work(A,cpu_s):B=Job(done=A.loop.create_future(),left_cpu_s=cpu_s);A._start(B,shares=1);await B.done
	async def load(A,wall_s):
		B=Job(done=A.loop.create_future(),until=A.loop.time()+wall_s);C=A.loop.call_at(B.until,settle,B)
		try:A._start(B,shares=A.size);await B.done
		finally:C.cancel()
	def close(A):
		for B in A.workers:A._forget(B)
		A.workers.clear()
	def _start(A,job,*,shares):A._fork_missing();A.queue.extend([job]*shares);A._dispatch()
	def _dispatch(A):
		for B in list(A.workers):
			if B.job is None and not A._give(B):return
	def _give(B,worker):
		C=worker;D=B.loop.time()
		while B.queue:
			A=B.queue.popleft()
			if A.finished(D):settle(A);continue
			C.job=A
			try:E=min(SLICE_CPU_S,A.left_cpu_s);C.link.send(ORDER.pack(E,GAP_S if A.until<math.inf else .0))
			except OSError:B._replace(C)
			return True
		return False
	def _took(C,worker):
		A=worker
		try:D=A.link.recv(COST.size)
		except OSError:D=b''
		if len(D)!=COST.size:C._replace(A);return
		B,A.job=A.job,None;assert B is not None;B.left_cpu_s-=COST.unpack(D)[0]
		if B.finished(C.loop.time()):settle(B)
		else:C.queue.append(B)
		C._give(A)
	def _fork_missing(A):
		try:
			while len(A.workers)<A.size:A.workers.append(A._fork())
		except OSError as B:
			if not A.workers:raise
			log('worker_not_started',error=str(B),workers=len(A.workers))
	def _fork(C):
		A,B=socket.socketpair(socket.AF_UNIX,socket.SOCK_SEQPACKET)
		try:D=os.fork()
		except OSError:A.close();B.close();raise
		if D==0:run_worker(B)
		B.close();A.setblocking(False);E=Worker(pid=D,link=A);C.loop.add_reader(A,C._took,E);return E
	def _forget(B,worker):
		A=worker;B.loop.remove_reader(A.link);A.link.close()
		with suppress(ProcessLookupError,ChildProcessError):os.kill(A.pid,signal.SIGKILL);os.waitpid(A.pid,0)
	def _replace(A,worker):
		B=worker;log('worker_died',pid=B.pid);A.workers.remove(B);A._forget(B)
		if B.job is not None:A.queue.appendleft(B.job)
		A.loop.call_later(.1,A._recover)
	def _recover(A):
		try:A._fork_missing()
		except OSError as B:
			log('worker_not_started',error=str(B),workers=0)
			if A.queue:A.loop.call_later(1.,A._recover)
		A._dispatch()
def settle(job):
	if not job.done.done():job.done.set_result(None)
@dataclass(slots=True)
class Metrics:
	in_flight:dict[str,int]=field(default_factory=lambda:dict.fromkeys(PATHS,0));served:dict[tuple[str,int],int]=field(default_factory=dict);seconds:dict[str,float]=field(default_factory=lambda:dict.fromkeys(PATHS,.0))
	def began(A,path):A.in_flight[path]=A.in_flight.get(path,0)+1
	def ended(A,path,status,seconds):C=status;B=path;A.in_flight[B]-=1;A.served[B,C]=A.served.get((B,C),0)+1;A.seconds[B]=A.seconds.get(B,.0)+seconds
	def render(C):
		A='exotide_slowapp_';B=[f"# TYPE {A}requests_in_flight gauge"];B+=[f'{A}requests_in_flight{{path="{B}"}} {C}'for(B,C)in sorted(C.in_flight.items())];B.append(f"# TYPE {A}requests_total counter");B+=[f'{A}requests_total{{path="{B}",status="{C}"}} {D}'for((B,C),D)in sorted(C.served.items())];B.append(f"# TYPE {A}request_seconds summary")
		for(D,E)in sorted(C.seconds.items()):F=sum(B for((A,C),B)in C.served.items()if A==D);B.append(f'{A}request_seconds_sum{{path="{D}"}} {E:.6f}');B.append(f'{A}request_seconds_count{{path="{D}"}} {F}')
		return'\n'.join(B)+'\n'
class Refused(Exception):
	def __init__(A,status,text):super().__init__(text);A.status=status
@dataclass(frozen=True,slots=True,kw_only=True)
class Request:method:str;target:str;keep_alive:bool;body_bytes:int
def parse_head(head):
	F,*G=head.decode('latin-1').removesuffix('\r\n\r\n').split('\r\n');A=F.split(' ')
	if len(A)!=3 or A[2]not in{'HTTP/1.0','HTTP/1.1'}:raise Refused(400,'This is no HTTP/1.1 request.')
	C={}
	for H in G:
		D,I,J=H.partition(':')
		if not I or not D or D!=D.strip():raise Refused(400,'A header field is malformed.')
		C[D.lower()]=J.strip()
	if'transfer-encoding'in C:raise Refused(411,'Send a body with Content-Length, or none.')
	B=C.get('content-length','0')
	if not(B.isascii()and B.isdigit()):raise Refused(400,'Content-Length must be a number.')
	if len(B)>9 or int(B)>MAX_BODY_BYTES:raise Refused(413,f"A body may have {MAX_BODY_BYTES} bytes.")
	E={A.strip()for A in C.get('connection','').lower().split(',')};K='close'not in E if A[2]=='HTTP/1.1'else'keep-alive'in E;return Request(method=A[0],target=A[1],keep_alive=K,body_bytes=int(B))
def encode(status,text,*,keep_alive,body=True):
	A=status;B=text.encode();C=f"""HTTP/1.1 {A} {REASONS[A]}\r
Content-Type: text/plain; charset=utf-8\r
Content-Length: {len(B)}\r
Cache-Control: no-store\r
Connection: {"keep-alive"if keep_alive else"close"}\r
"""
	if A==405:C+='Allow: GET, HEAD\r\n'
	return C.encode()+b'\r\n'+(B if body else b'')
def locate(target):
	A=target
	try:B=urlsplit(A)
	except ValueError:return A,''
	return B.path,B.query
def cpu_seconds(query):
	B=parse_qs(query,keep_blank_values=True).get('cpu_s',[]);A=parse_number(B[0])if len(B)==1 else None
	if A is None or not 0<A<=MAX_CPU_S:raise Refused(400,f"cpu_s must be a number above 0, up to {MAX_CPU_S:g}: /work?cpu_s=0.2")
	return A
@dataclass(slots=True)
class App:
	settings:Settings;pool:Pool;metrics:Metrics=field(default_factory=Metrics);max_connections:int=1000;leaving:bool=False;tasks:set[asyncio.Task[None]]=field(default_factory=set);waiting:dict[asyncio.Task[None],bool]=field(default_factory=dict);served:dict[int,asyncio.Task[None]]=field(default_factory=dict);departures:select.epoll=field(default_factory=select.epoll)
	async def accept(A,listener):
		B=listener;C=asyncio.get_running_loop();C.add_reader(A.departures,A._dismiss)
		while True:
			await A._make_room()
			try:A._take(B)
			except BlockingIOError:
				D=asyncio.Event();C.add_reader(B,D.set)
				try:await D.wait()
				finally:C.remove_reader(B)
			except OSError as E:log('connection_not_accepted',error=str(E));await asyncio.sleep(.1)
	def _dismiss(A):
		for(B,D)in A.departures.poll(0):
			if(C:=A.served.get(B)):C.cancel()
	async def finish(A,listener):
		B=listener
		with suppress(TimeoutError):
			async with asyncio.timeout(A.settings.finish_s):
				with B,suppress(OSError):
					for C in range(2*BACKLOG):await A._make_room();A._take(B)
				await A._drain()
	def _take(A,listener):B,D=listener.accept();B.setblocking(False);C=asyncio.create_task(A._serve(B));A.tasks.add(C);C.add_done_callback(A.tasks.discard)
	async def _drain(A):
		if A.tasks:await asyncio.wait(A.tasks,timeout=0)
		for(B,C)in list(A.waiting.items()):
			if C:B.cancel()
		if A.tasks:await asyncio.wait(A.tasks,timeout=ARRIVE_WITHIN_S)
		for B in list(A.waiting):B.cancel()
		if A.tasks:await asyncio.wait(A.tasks)
	async def _make_room(A):
		while len(A.tasks)>=A.max_connections:
			if A.waiting:B=next(iter(A.waiting));del A.waiting[B];B.cancel()
			await asyncio.wait(A.tasks,timeout=.05,return_when=asyncio.FIRST_COMPLETED)
	async def _serve(C,connection):
		D=connection;B=asyncio.current_task();assert B is not None
		try:
			E,A=await asyncio.open_connection(sock=D,limit=MAX_HEADER_BYTES)
			try:
				await C._converse(E,A,B,D);A.close()
				async with asyncio.timeout(HEADER_TIMEOUT_S):await A.wait_closed()
			finally:A.transport.abort()
		except(OSError,EOFError,asyncio.CancelledError):0
		finally:C.waiting.pop(B,None)
	async def _converse(A,reader,writer,task,connection):
		G=reader;B=writer;C=False
		while True:
			try:E=await A._read(G,task,kept=C)
			except Refused as F:A.metrics.began('other');A.metrics.ended('other',F.status,.0);B.write(encode(F.status,f"{F}\n",keep_alive=False));await part(G,B);return
			D=connection.fileno();A.served[D]=task;A.departures.register(D,select.EPOLLRDHUP|select.EPOLLONESHOT)
			try:H,I=await A._answer(E)
			finally:
				del A.served[D]
				with suppress(OSError):A.departures.unregister(D)
			C=E.keep_alive and not A.leaving;J=E.method!='HEAD';B.write(encode(H,I,keep_alive=C,body=J))
			async with asyncio.timeout(HEADER_TIMEOUT_S):await B.drain()
			if not C:return
	async def _read(A,reader,task,*,kept):
		C=task;B=reader;A.waiting[C]=kept
		async with asyncio.timeout(IDLE_TIMEOUT_S if kept else HEADER_TIMEOUT_S):E=await B.readexactly(1)
		A.waiting[C]=False
		try:
			async with asyncio.timeout(HEADER_TIMEOUT_S):D=parse_head(E+await B.readuntil(b'\r\n\r\n'));await B.readexactly(D.body_bytes)
		except TimeoutError:raise Refused(408,'The request did not arrive in time.')from None
		except asyncio.LimitOverrunError:raise Refused(431,"The request's head is too large.")from None
		finally:A.waiting.pop(C,None)
		return D
	async def _answer(D,request):
		F=request;B,H=locate(F.target);G=B if B in PATHS else'other';I=time.monotonic();D.metrics.began(G);A=499
		try:E=await D._result(F.method,B,H);A=200
		except Refused as C:A,E=C.status,f"{C}\n"
		except OSError as C:log('request_failed',path=B,error=str(C));A,E=503,'No process could be started for this; try again.\n'
		finally:D.metrics.ended(G,A,time.monotonic()-I)
		return A,E
	async def _result(B,method,path,query):
		C=method;A=path
		if A not in PATHS:raise Refused(404,f"There is {', '.join(PATHS)}; nothing else.")
		if C not in{'GET','HEAD'}:raise Refused(405,'Use GET.')
		if A=='/metrics':return B.metrics.render()
		if A=='/load'and C=='GET':await B.pool.load(B.settings.load_s);return'Load generation done.'
		if A=='/work':
			D=cpu_seconds(query)
			if C=='GET':await B.pool.work(D)
			return'Work done.'
		if A=='/health'and B.leaving:raise Refused(503,'This member is leaving.')
		return'OK'if A=='/health'else'Load generation done.'
async def part(reader,writer):
	A=writer
	with suppress(TimeoutError):
		async with asyncio.timeout(PART_TIMEOUT_S):
			await A.drain();A.write_eof()
			while await reader.read(MAX_BODY_BYTES):0
def log(event,**A):
	with suppress(OSError):print(json.dumps({'event':event,**A}),file=sys.stderr,flush=True)
def listen(address,port):
	B=address;C=socket.AF_INET6 if':'in B else socket.AF_INET;A=socket.socket(C,socket.SOCK_STREAM)
	try:A.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1);A.bind((B,port));A.listen(BACKLOG);A.setblocking(False)
	except OSError:A.close();raise
	return A
def raise_file_limit():C,A=resource.getrlimit(resource.RLIMIT_NOFILE);B=65536 if A==resource.RLIM_INFINITY else min(A,65536);resource.setrlimit(resource.RLIMIT_NOFILE,(B,A));return max(B-SPARE_FILES,1)
async def run(settings,listener):
	E=listener;A=settings;C=asyncio.get_running_loop();F=asyncio.Event()
	for D in SIGNALS:C.add_signal_handler(D,F.set)
	signal.pthread_sigmask(signal.SIG_UNBLOCK,SIGNALS);B=App(settings=A,pool=Pool(size=A.workers,loop=C),max_connections=raise_file_limit());G=asyncio.create_task(B.accept(E));log('started',address=A.address,port=A.port,workers=A.workers);await F.wait();B.leaving=True
	for D in SIGNALS:C.call_later(ONE_PRESS_S,C.add_signal_handler,D,os._exit,128+D)
	log('stopping',in_flight=sum(B.metrics.in_flight.values()),drain_s=A.drain_s);await asyncio.sleep(A.drain_s);G.cancel();await B.finish(E);B.pool.close()
def main():
	signal.pthread_sigmask(signal.SIG_BLOCK,SIGNALS)
	try:A=read_settings(os.environ);C=listen(A.address,A.port)
	except SettingsError as B:print(B,file=sys.stderr);return 2
	except OSError as B:D=f"{A.address} port {A.port}";print(f"error: cannot listen on {D}: {B.strerror}",file=sys.stderr);return 1
	asyncio.run(run(A,C));log('stopped');return 0
if __name__=='__main__':sys.exit(main())