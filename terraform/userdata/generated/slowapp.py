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
	problems=[]
	def number(name,default,low,high,*,whole):
		text=environ.get(name,'').strip();value=parse_number(text)if text else default
		if value is None or not low<=value<=high or whole and value%1:kind='whole number'if whole else'number';problems.append(f"  {name}  must be a {kind} from {low:g} to {high:g}, got: {text!r}");return default
		return value
	settings=Settings(address=environ.get('LISTEN_ADDRESS','').strip()or'0.0.0.0',port=int(number('LISTEN_PORT',8080,1,65535,whole=True)),load_s=number('LOAD_SECONDS',10,0,3600,whole=False),workers=int(number('LOAD_WORKERS',len(os.sched_getaffinity(0)),1,1024,whole=True)),drain_s=number('DRAIN_SECONDS',0,0,3600,whole=False),finish_s=number('FINISH_SECONDS',30,0,3600,whole=False))
	if problems:raise SettingsError('\n'.join([f"error: {len(problems)} settings are wrong",*problems]))
	return settings
def parse_number(text):
	if not NUMBER.fullmatch(text):return
	value=float(text);return value if math.isfinite(value)else None
def burn(cpu_s):
	began=time.thread_time();end=began+cpu_s
	while(now:=time.thread_time())<end:
		for _ in range(500):0
	return now-began
def run_worker(link):
	try:
		signal.set_wakeup_fd(-1)
		for number in SIGNALS:signal.signal(number,signal.SIG_IGN)
		os.closerange(3,link.fileno());os.closerange(link.fileno()+1,resource.getrlimit(resource.RLIMIT_NOFILE)[0]);os.nice(WORKER_NICENESS);burn_until=.0
		while len((order:=next_order(link,burn_until)))==ORDER.size:cpu_s,gap_s=ORDER.unpack(order);link.send(COST.pack(burn(cpu_s)));burn_until=time.monotonic()+gap_s
	finally:os._exit(0)
def next_order(link,burn_until):
	while time.monotonic()<burn_until:
		try:return link.recv(ORDER.size,socket.MSG_DONTWAIT)
		except BlockingIOError:burn(GAP_CPU_S)
	return link.recv(ORDER.size)
@dataclass(slots=True,eq=False)
class Job:
	done:asyncio.Future[None];left_cpu_s:float=math.inf;until:float=math.inf
	def finished(self,now):return self.done.done()or self.left_cpu_s<=0 or now>=self.until
@dataclass(slots=True,eq=False)
class Worker:pid:int;link:socket.socket;job:Job|None=None
@dataclass(slots=True)
class Pool:
	size:int;loop:asyncio.AbstractEventLoop;queue:deque[Job]=field(default_factory=deque);workers:list[Worker]=field(default_factory=list)
	async def work(self,cpu_s):job=Job(done=self.loop.create_future(),left_cpu_s=cpu_s);self._start(job,shares=1);await job.done
	async def load(self,wall_s):
		job=Job(done=self.loop.create_future(),until=self.loop.time()+wall_s);timer=self.loop.call_at(job.until,settle,job)
		try:self._start(job,shares=self.size);await job.done
		finally:timer.cancel()
	def close(self):
		for worker in self.workers:self._forget(worker)
		self.workers.clear()
	def _start(self,job,*,shares):self._fork_missing();self.queue.extend([job]*shares);self._dispatch()
	def _dispatch(self):
		for worker in list(self.workers):
			if worker.job is None and not self._give(worker):return
	def _give(self,worker):
		now=self.loop.time()
		while self.queue:
			job=self.queue.popleft()
			if job.finished(now):settle(job);continue
			worker.job=job
			try:cpu_s=min(SLICE_CPU_S,job.left_cpu_s);worker.link.send(ORDER.pack(cpu_s,GAP_S if job.until<math.inf else .0))
			except OSError:self._replace(worker)
			return True
		return False
	def _took(self,worker):
		try:answer=worker.link.recv(COST.size)
		except OSError:answer=b''
		if len(answer)!=COST.size:self._replace(worker);return
		job,worker.job=worker.job,None;assert job is not None;job.left_cpu_s-=COST.unpack(answer)[0]
		if job.finished(self.loop.time()):settle(job)
		else:self.queue.append(job)
		self._give(worker)
	def _fork_missing(self):
		try:
			while len(self.workers)<self.size:self.workers.append(self._fork())
		except OSError as error:
			if not self.workers:raise
			log('worker_not_started',error=str(error),workers=len(self.workers))
	def _fork(self):
		ours,theirs=socket.socketpair(socket.AF_UNIX,socket.SOCK_SEQPACKET)
		try:pid=os.fork()
		except OSError:ours.close();theirs.close();raise
		if pid==0:run_worker(theirs)
		theirs.close();ours.setblocking(False);worker=Worker(pid=pid,link=ours);self.loop.add_reader(ours,self._took,worker);return worker
	def _forget(self,worker):
		self.loop.remove_reader(worker.link);worker.link.close()
		with suppress(ProcessLookupError,ChildProcessError):os.kill(worker.pid,signal.SIGKILL);os.waitpid(worker.pid,0)
	def _replace(self,worker):
		log('worker_died',pid=worker.pid);self.workers.remove(worker);self._forget(worker)
		if worker.job is not None:self.queue.appendleft(worker.job)
		self.loop.call_later(.1,self._recover)
	def _recover(self):
		try:self._fork_missing()
		except OSError as error:
			log('worker_not_started',error=str(error),workers=0)
			if self.queue:self.loop.call_later(1.,self._recover)
		self._dispatch()
def settle(job):
	if not job.done.done():job.done.set_result(None)
@dataclass(slots=True)
class Metrics:
	in_flight:dict[str,int]=field(default_factory=lambda:dict.fromkeys(PATHS,0));served:dict[tuple[str,int],int]=field(default_factory=dict);seconds:dict[str,float]=field(default_factory=lambda:dict.fromkeys(PATHS,.0))
	def began(self,path):self.in_flight[path]=self.in_flight.get(path,0)+1
	def ended(self,path,status,seconds):self.in_flight[path]-=1;self.served[path,status]=self.served.get((path,status),0)+1;self.seconds[path]=self.seconds.get(path,.0)+seconds
	def render(self):
		prefix='exotide_slowapp_';lines=[f"# TYPE {prefix}requests_in_flight gauge"];lines+=[f'{prefix}requests_in_flight{{path="{path}"}} {count}'for(path,count)in sorted(self.in_flight.items())];lines.append(f"# TYPE {prefix}requests_total counter");lines+=[f'{prefix}requests_total{{path="{path}",status="{status}"}} {count}'for((path,status),count)in sorted(self.served.items())];lines.append(f"# TYPE {prefix}request_seconds summary")
		for(path,seconds)in sorted(self.seconds.items()):count=sum(n for((served,_),n)in self.served.items()if served==path);lines.append(f'{prefix}request_seconds_sum{{path="{path}"}} {seconds:.6f}');lines.append(f'{prefix}request_seconds_count{{path="{path}"}} {count}')
		return'\n'.join(lines)+'\n'
class Refused(Exception):
	def __init__(self,status,text):super().__init__(text);self.status=status
@dataclass(frozen=True,slots=True,kw_only=True)
class Request:method:str;target:str;keep_alive:bool;body_bytes:int
def parse_head(head):
	line,*fields=head.decode('latin-1').removesuffix('\r\n\r\n').split('\r\n');parts=line.split(' ')
	if len(parts)!=3 or parts[2]not in{'HTTP/1.0','HTTP/1.1'}:raise Refused(400,'This is no HTTP/1.1 request.')
	headers={}
	for text in fields:
		name,colon,value=text.partition(':')
		if not colon or not name or name!=name.strip():raise Refused(400,'A header field is malformed.')
		headers[name.lower()]=value.strip()
	if'transfer-encoding'in headers:raise Refused(411,'Send a body with Content-Length, or none.')
	length=headers.get('content-length','0')
	if not(length.isascii()and length.isdigit()):raise Refused(400,'Content-Length must be a number.')
	if len(length)>9 or int(length)>MAX_BODY_BYTES:raise Refused(413,f"A body may have {MAX_BODY_BYTES} bytes.")
	options={option.strip()for option in headers.get('connection','').lower().split(',')};kept='close'not in options if parts[2]=='HTTP/1.1'else'keep-alive'in options;return Request(method=parts[0],target=parts[1],keep_alive=kept,body_bytes=int(length))
def encode(status,text,*,keep_alive,body=True):
	content=text.encode();head=f"""HTTP/1.1 {status} {REASONS[status]}\r
Content-Type: text/plain; charset=utf-8\r
Content-Length: {len(content)}\r
Cache-Control: no-store\r
Connection: {"keep-alive"if keep_alive else"close"}\r
"""
	if status==405:head+='Allow: GET, HEAD\r\n'
	return head.encode()+b'\r\n'+(content if body else b'')
def locate(target):
	try:parts=urlsplit(target)
	except ValueError:return target,''
	return parts.path,parts.query
def cpu_seconds(query):
	values=parse_qs(query,keep_blank_values=True).get('cpu_s',[]);value=parse_number(values[0])if len(values)==1 else None
	if value is None or not 0<value<=MAX_CPU_S:raise Refused(400,f"cpu_s must be a number above 0, up to {MAX_CPU_S:g}: /work?cpu_s=0.2")
	return value
@dataclass(slots=True)
class App:
	settings:Settings;pool:Pool;metrics:Metrics=field(default_factory=Metrics);max_connections:int=1000;leaving:bool=False;tasks:set[asyncio.Task[None]]=field(default_factory=set);waiting:dict[asyncio.Task[None],bool]=field(default_factory=dict);served:dict[int,asyncio.Task[None]]=field(default_factory=dict);departures:select.epoll=field(default_factory=select.epoll)
	async def accept(self,listener):
		loop=asyncio.get_running_loop();loop.add_reader(self.departures,self._dismiss)
		while True:
			await self._make_room()
			try:self._take(listener)
			except BlockingIOError:
				came=asyncio.Event();loop.add_reader(listener,came.set)
				try:await came.wait()
				finally:loop.remove_reader(listener)
			except OSError as error:log('connection_not_accepted',error=str(error));await asyncio.sleep(.1)
	def _dismiss(self):
		for(descriptor,_)in self.departures.poll(0):
			if(task:=self.served.get(descriptor)):task.cancel()
	async def finish(self,listener):
		with suppress(TimeoutError):
			async with asyncio.timeout(self.settings.finish_s):
				with listener,suppress(OSError):
					for _ in range(2*BACKLOG):await self._make_room();self._take(listener)
				await self._drain()
	def _take(self,listener):connection,_=listener.accept();connection.setblocking(False);task=asyncio.create_task(self._serve(connection));self.tasks.add(task);task.add_done_callback(self.tasks.discard)
	async def _drain(self):
		if self.tasks:await asyncio.wait(self.tasks,timeout=0)
		for(task,kept_and_silent)in list(self.waiting.items()):
			if kept_and_silent:task.cancel()
		if self.tasks:await asyncio.wait(self.tasks,timeout=ARRIVE_WITHIN_S)
		for task in list(self.waiting):task.cancel()
		if self.tasks:await asyncio.wait(self.tasks)
	async def _make_room(self):
		while len(self.tasks)>=self.max_connections:
			if self.waiting:oldest=next(iter(self.waiting));del self.waiting[oldest];oldest.cancel()
			await asyncio.wait(self.tasks,timeout=.05,return_when=asyncio.FIRST_COMPLETED)
	async def _serve(self,connection):
		task=asyncio.current_task();assert task is not None
		try:
			reader,writer=await asyncio.open_connection(sock=connection,limit=MAX_HEADER_BYTES)
			try:
				await self._converse(reader,writer,task,connection);writer.close()
				async with asyncio.timeout(HEADER_TIMEOUT_S):await writer.wait_closed()
			finally:writer.transport.abort()
		except(OSError,EOFError,asyncio.CancelledError):0
		finally:self.waiting.pop(task,None)
	async def _converse(self,reader,writer,task,connection):
		kept=False
		while True:
			try:request=await self._read(reader,task,kept=kept)
			except Refused as error:self.metrics.began('other');self.metrics.ended('other',error.status,.0);writer.write(encode(error.status,f"{error}\n",keep_alive=False));await part(reader,writer);return
			descriptor=connection.fileno();self.served[descriptor]=task;self.departures.register(descriptor,select.EPOLLRDHUP|select.EPOLLONESHOT)
			try:status,text=await self._answer(request)
			finally:
				del self.served[descriptor]
				with suppress(OSError):self.departures.unregister(descriptor)
			kept=request.keep_alive and not self.leaving;body=request.method!='HEAD';writer.write(encode(status,text,keep_alive=kept,body=body))
			async with asyncio.timeout(HEADER_TIMEOUT_S):await writer.drain()
			if not kept:return
	async def _read(self,reader,task,*,kept):
		self.waiting[task]=kept
		async with asyncio.timeout(IDLE_TIMEOUT_S if kept else HEADER_TIMEOUT_S):first=await reader.readexactly(1)
		self.waiting[task]=False
		try:
			async with asyncio.timeout(HEADER_TIMEOUT_S):request=parse_head(first+await reader.readuntil(b'\r\n\r\n'));await reader.readexactly(request.body_bytes)
		except TimeoutError:raise Refused(408,'The request did not arrive in time.')from None
		except asyncio.LimitOverrunError:raise Refused(431,"The request's head is too large.")from None
		finally:self.waiting.pop(task,None)
		return request
	async def _answer(self,request):
		path,query=locate(request.target);label=path if path in PATHS else'other';began=time.monotonic();self.metrics.began(label);status=499
		try:text=await self._result(request.method,path,query);status=200
		except Refused as error:status,text=error.status,f"{error}\n"
		except OSError as error:log('request_failed',path=path,error=str(error));status,text=503,'No process could be started for this; try again.\n'
		finally:self.metrics.ended(label,status,time.monotonic()-began)
		return status,text
	async def _result(self,method,path,query):
		if path not in PATHS:raise Refused(404,f"There is {', '.join(PATHS)}; nothing else.")
		if method not in{'GET','HEAD'}:raise Refused(405,'Use GET.')
		if path=='/metrics':return self.metrics.render()
		if path=='/load'and method=='GET':await self.pool.load(self.settings.load_s);return'Load generation done.'
		if path=='/work':
			cpu_s=cpu_seconds(query)
			if method=='GET':await self.pool.work(cpu_s)
			return'Work done.'
		if path=='/health'and self.leaving:raise Refused(503,'This member is leaving.')
		return'OK'if path=='/health'else'Load generation done.'
async def part(reader,writer):
	with suppress(TimeoutError):
		async with asyncio.timeout(PART_TIMEOUT_S):
			await writer.drain();writer.write_eof()
			while await reader.read(MAX_BODY_BYTES):0
def log(event,**values):
	with suppress(OSError):print(json.dumps({'event':event,**values}),file=sys.stderr,flush=True)
def listen(address,port):
	family=socket.AF_INET6 if':'in address else socket.AF_INET;listener=socket.socket(family,socket.SOCK_STREAM)
	try:listener.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1);listener.bind((address,port));listener.listen(BACKLOG);listener.setblocking(False)
	except OSError:listener.close();raise
	return listener
def raise_file_limit():_,hard=resource.getrlimit(resource.RLIMIT_NOFILE);soft=65536 if hard==resource.RLIM_INFINITY else min(hard,65536);resource.setrlimit(resource.RLIMIT_NOFILE,(soft,hard));return max(soft-SPARE_FILES,1)
async def run(settings,listener):
	loop=asyncio.get_running_loop();stop=asyncio.Event()
	for number in SIGNALS:loop.add_signal_handler(number,stop.set)
	signal.pthread_sigmask(signal.SIG_UNBLOCK,SIGNALS);app=App(settings=settings,pool=Pool(size=settings.workers,loop=loop),max_connections=raise_file_limit());accepting=asyncio.create_task(app.accept(listener));log('started',address=settings.address,port=settings.port,workers=settings.workers);await stop.wait();app.leaving=True
	for number in SIGNALS:loop.call_later(ONE_PRESS_S,loop.add_signal_handler,number,os._exit,128+number)
	log('stopping',in_flight=sum(app.metrics.in_flight.values()),drain_s=settings.drain_s);await asyncio.sleep(settings.drain_s);accepting.cancel();await app.finish(listener);app.pool.close()
def main():
	signal.pthread_sigmask(signal.SIG_BLOCK,SIGNALS)
	try:settings=read_settings(os.environ);listener=listen(settings.address,settings.port)
	except SettingsError as error:print(error,file=sys.stderr);return 2
	except OSError as error:where=f"{settings.address} port {settings.port}";print(f"error: cannot listen on {where}: {error.strerror}",file=sys.stderr);return 1
	asyncio.run(run(settings,listener));log('stopped');return 0
if __name__=='__main__':sys.exit(main())